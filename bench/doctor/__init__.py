"""`look` is the command: `facts` are looked up, `noise` is listened to, `says` makes sentences of both."""
