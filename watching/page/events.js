// News from the server: /events, again and again.

const AGAIN = 2000;  // ms

export class Events {
  // heard(message), for each.
  constructor(url, heard) {
    this.url = url;
    this.heard = heard;
    this.last = performance.now();
    this.#open();
  }

  #open() {
    this.stream = new EventSource(this.url);
    this.stream.addEventListener("sample", (event) => {
      this.last = performance.now();
      this.heard(JSON.parse(event.data));
    });
  }

  // EventSource tries again by itself, but not after an answer that is no stream, as of a proxy before the server.
  look() {
    if (this.stream.readyState !== EventSource.CLOSED || performance.now() - (this.tried ?? -AGAIN) < AGAIN) return;
    this.tried = performance.now();
    this.#open();
  }

  // Seconds without news.
  get silent() {
    return (performance.now() - this.last) / 1000;
  }
}
