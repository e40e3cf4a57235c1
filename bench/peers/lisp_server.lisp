;;;; The original under test: Hunchentoot, with its own taskmaster or with hunchentoot-recycling-taskmaster.
;;;;
;;;;   sbcl --noinform --end-runtime-options --no-sysinit --no-userinit --disable-debugger \
;;;;        --load bench/lisp_server.lisp --end-toplevel-options --system hunchentoot --sleep 0.1
;;;;
;;;; It prints its port on a line of its own once it has answered a request, and ends with its standard input. With
;;;; --check it only loads what it needs, which compiles it the first time, and prints the versions. See bench/peers/lisp.py.
;;;; Not --script: there SBCL lets SIGPIPE end the process, and a client that leaves early would.

(require :asdf)

(defun complain (condition hook)
  "One line instead of a backtrace: the parent shows the last one."
  (declare (ignore hook))
  (format *error-output* "~&~A~%" (substitute #\Space #\Newline (princ-to-string condition)))
  (finish-output *error-output*)
  (sb-ext:exit :code 1 :abort t))

(setf sb-ext:*invoke-debugger-hook* #'complain)

(defvar *options*
  (loop for (name value) on (rest sb-ext:*posix-argv*)  ; without those that were SBCL's
        when (and (> (length name) 2) (string= "--" name :end2 2))
          collect (cons (subseq name 2) value)))

(defun option (name &optional default)
  (let ((found (assoc name *options* :test #'string=)))
    (if found (cdr found) default)))

(defun number-of (text)
  "What TEXT says, \"100\" or \"0.1\". An error if it is no number from 0 on."
  (let ((value (let ((*read-eval* nil) (*read-default-float-format* 'double-float)) (read-from-string text))))
    (check-type value (real 0))
    value))

(defun whole (name)
  (and (option name) (parse-integer (option name))))

(defvar *system* (option "system" "hunchentoot"))

;; Compilers talk; standard output is for the port. Quicklisp, where it is, finds systems that ASDF alone does not.
(let ((*standard-output* *error-output*)
      (quicklisp (merge-pathnames "quicklisp/setup.lisp" (user-homedir-pathname))))
  (handler-bind ((warning #'muffle-warning))
    (when (and (probe-file quicklisp) (not (asdf:find-system *system* nil)))
      (load quicklisp))
    (asdf:load-system *system*)))

(when (assoc "check" *options* :test #'string=)
  (format t "~A ~A~@[, ~A~], SBCL ~A~%" *system* (asdf:component-version (asdf:find-system *system*))
          (and (string/= *system* "hunchentoot")
               (format nil "hunchentoot ~A" (asdf:component-version (asdf:find-system "hunchentoot"))))
          (lisp-implementation-version))
  (finish-output)
  (sb-ext:exit :code 0 :abort t))

(defvar *sleep* (/ (number-of (option "sleep" "0")) 1000))
(defvar *spin* (/ (number-of (option "spin" "0")) 1000))
(defvar *by-path* (and (assoc "by-path" *options* :test #'string=) t))

(defun spin (seconds)
  "Burn so much CPU time of this thread: clock_gettime(2), CLOCK_THREAD_CPUTIME_ID."
  (flet ((now ()
           (multiple-value-bind (whole nanoseconds)
               (sb-unix::clock-gettime sb-unix:clock-thread-cputime-id)
             (+ whole (/ nanoseconds 1d9)))))
    (loop with end = (+ (now) seconds)
          while (< (now) end)
          do (loop repeat 500 count t))))

(defun work (path)
  (cond ((not *by-path*)
         (when (plusp *sleep*) (sleep *sleep*))
         (when (plusp *spin*) (spin *spin*)))
        ((eql 0 (search "/sleep/" path)) (sleep (/ (number-of (subseq path 7)) 1000)))
        ((eql 0 (search "/spin/" path)) (spin (/ (number-of (subseq path 6)) 1000)))))

(defmethod hunchentoot:acceptor-dispatch-request :around ((acceptor hunchentoot:acceptor) request)
  (work (hunchentoot:script-name request))
  (setf (hunchentoot:content-type*) "text/plain; charset=utf-8")
  "Hello, World")

(defun taskmaster-options ()
  "Threads, and how many connections more may wait for one: Hunchentoot counts the one that is being refused, too."
  (let ((threads (whole "threads")))
    (append (when threads (list :max-thread-count threads :max-accept-count (+ threads 1 (or (whole "queue") 19))))
            (when (and threads (string/= *system* "hunchentoot")) (list :standby-thread-count (min 8 threads))))))

(defun name-of (hunchentoot recycling)
  (if (string= *system* "hunchentoot")
      (find-symbol hunchentoot "HUNCHENTOOT")
      (find-symbol recycling "HUNCHENTOOT-RECYCLING-TASKMASTER")))

(defvar *acceptor*
  (apply #'make-instance (name-of "ACCEPTOR" "PARALLEL-ACCEPTOR")
         :address "127.0.0.1" :port (or (whole "port") 0) :listen-backlog 1024
         :access-log-destination nil :message-log-destination nil
         :taskmaster (apply #'make-instance (name-of "ONE-THREAD-PER-CONNECTION-TASKMASTER" "RECYCLING-TASKMASTER")
                            (taskmaster-options))
         (when (option "keep-alive")
           (let ((seconds (number-of (option "keep-alive"))))
             (list :read-timeout seconds :write-timeout seconds)))))  ; SBCL wants them equal

(hunchentoot:start *acceptor*)

;; The first request takes 0.1 s: CLOS compiles what it finds for each generic function. It is nobody's who measures.
(usocket:with-client-socket (socket stream "127.0.0.1" (hunchentoot:acceptor-port *acceptor*))
  (dolist (line '("GET / HTTP/1.1" "Host: bench" "Connection: close" ""))
    (format stream "~A~C~C" line #\Return #\Newline))
  (finish-output stream)
  (loop while (read-line stream nil)))

(format t "~D~%" (hunchentoot:acceptor-port *acceptor*))
(finish-output)
(loop while (read-line *standard-input* nil))
(sb-ext:exit :code 0 :abort t)
