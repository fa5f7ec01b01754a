//! A real browser for tests of pages: Debian's chromium without a screen, spoken to over its DevTools pipe, so that
//! neither a port nor a WebSocket is needed. A test without a browser says so in a line that .ci/run counts.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Nothing here takes longer, on the slowest machine that runs tests.
const DEADLINE: Duration = Duration::from_secs(60);

/// The browser's descriptors 3 and 4 are the DevTools pipe; what it prints is nobody's.
const START: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;

/// What a test does with the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mouse {
    Move,
    Press,
    Release,
}

/// One page of a browser of its own, 1280 by 900.
pub(crate) struct Browser {
    child: Child,
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    session: String,
    calls: u64,
    /// Errors on the console, exceptions, and files that could not be loaded.
    complaints: Vec<String>,
    /// Events that came while something else was waited for.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; none where chromium is not installed, unless `RAFTGRAM_TEST_BROWSER=required`.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let found = Command::new("chromium").arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            let is_required = std::env::var("RAFTGRAM_TEST_BROWSER").is_ok_and(|value| value == "required");
            assert!(!is_required, "chromium is not installed");
            // Past the capture of tests' output: a test that shows nothing must be seen to show nothing.
            let _ = writeln!(std::io::stderr(), "skipped: {test}: chromium is not installed");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", START, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, from) = channel();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut bytes = Vec::new();
            while lines.read_until(0, &mut bytes).is_ok_and(|taken| taken > 0) {
                let message = serde_json::from_slice(bytes.strip_suffix(b"\0").unwrap_or(&bytes));
                bytes.clear();
                if message.is_ok_and(|message| send.send(message).is_err()) {
                    return;
                }
            }
        });
        let to = child.stdin.take();
        let mut browser = Self {
            child,
            to,
            from,
            session: String::new(),
            calls: 0,
            complaints: Vec::new(),
            events: Vec::new(),
            _profile: profile,
        };
        browser.attach();
        Some(browser)
    }

    fn attach(&mut self) {
        let target = self.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = self.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        self.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        self.resize(1280, 900);
    }

    /// Makes the page this large.
    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// What the system says it prefers: `light` or `dark`.
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// Goes to a page and waits until it is loaded.
    pub(crate) fn open(&mut self, url: &str) {
        self.events.clear();
        let answer = self.call("Page.navigate", json!({"url": url}));
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
        self.wait_event("Page.loadEventFired");
    }

    /// A file as a page.
    pub(crate) fn open_file(&mut self, file: &Path) {
        self.open(&format!("file://{}", file.canonicalize().unwrap().display()));
    }

    /// The value of an expression; a promise's when it is one. An exception fails the test.
    #[track_caller]
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Asks again and again until it is true.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, expression: &str) {
        let began = Instant::now();
        // The page itself waits for its next picture, so asking does not keep it busy.
        let asked = format!("new Promise(done => requestAnimationFrame(() => done(Boolean({expression}))))");
        while self.eval(&asked) != json!(true) {
            assert!(
                began.elapsed() < DEADLINE,
                "not within {DEADLINE:?}: {expression}; the page complains: {:?}",
                self.complaints
            );
        }
    }

    /// The left button, or a move, at a place of the page that is shown.
    pub(crate) fn mouse(&mut self, mouse: Mouse, x: f64, y: f64) {
        let (kind, clicks) = match mouse {
            Mouse::Move => ("mouseMoved", 0),
            Mouse::Press => ("mousePressed", 1),
            Mouse::Release => ("mouseReleased", 1),
        };
        let event = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": clicks});
        self.call("Input.dispatchMouseEvent", event);
    }

    /// A click.
    pub(crate) fn click(&mut self, x: f64, y: f64) {
        [Mouse::Move, Mouse::Press, Mouse::Release].into_iter().for_each(|mouse| self.mouse(mouse, x, y));
    }

    /// Turns the wheel there; up, away from the user, is negative.
    pub(crate) fn wheel(&mut self, x: f64, y: f64, delta: f64) {
        let event = json!({"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": delta});
        self.call("Input.dispatchMouseEvent", event);
    }

    /// What the page looks like, as PNG in base64.
    pub(crate) fn screenshot(&mut self) -> String {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}));
        answer["data"].as_str().unwrap().to_owned()
    }

    /// What went wrong in the page so far.
    pub(crate) fn complaints(&mut self) -> &[String] {
        // Whatever the page said before this answer has arrived with it.
        self.eval("0");
        &self.complaints
    }

    #[track_caller]
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let to = self.to.as_mut().unwrap();
        to.write_all(message.to_string().as_bytes()).and_then(|()| to.write_all(b"\0")).unwrap();
        loop {
            let message = self.receive(method);
            if message["id"] == json!(self.calls) {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.note(message);
        }
    }

    fn receive(&self, waiting_for: &str) -> Value {
        let message = self.from.recv_timeout(DEADLINE);
        message.unwrap_or_else(|error| panic!("the browser is silent ({error}) at {waiting_for}"))
    }

    fn wait_event(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let message = self.receive(method);
            self.note(message);
        }
    }

    fn note(&mut self, event: Value) {
        let parameters = &event["params"];
        let complaint = match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => Some(parameters["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" if matches!(parameters["type"].as_str(), Some("error" | "assert")) => {
                Some(parameters["args"].to_string())
            }
            "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
                Some(parameters["entry"].to_string())
            }
            "Network.loadingFailed" => Some(parameters.to_string()),
            // A page that opens from disk asks nobody; one that is served asks its server only.
            "Network.requestWillBeSent" => None,
            _ => None,
        };
        self.complaints.extend(complaint);
        self.events.push(event);
    }

    /// The addresses that pages have asked for.
    pub(crate) fn requests(&self) -> Vec<String> {
        let asked = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        asked.filter_map(|event| Some(event["params"]["request"]["url"].as_str()?.to_owned())).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends when its pipe does; after a failed test it is not waited for.
        drop(self.to.take());
        if thread::panicking() {
            let _ = self.child.kill();
        }
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > Duration::from_secs(5) {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
