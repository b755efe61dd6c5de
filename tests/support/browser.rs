//! A real browser without a window, driven by the DevTools protocol over two pipes: what a reader would
//! see, click and wait for.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// For a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// One tab.
pub(crate) struct Browser {
    process: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    /// What the browser told by itself since the page was opened.
    events: Vec<Value>,
    last: u64,
    session: Option<String>,
    /// Whether pages run scripts.
    scripts: bool,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts the browser. A test that asks for one fails where there is none.
    pub(crate) fn start() -> Self {
        let name = find();
        let profile = tempfile::tempdir().expect("a folder");
        // The protocol wants descriptors 3 and 4.
        let mut process = Command::new("sh")
            .args([
                "-c",
                "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
            ])
            .arg(&name)
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                // Containers run as root, and the pages are our own.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let input = process.stdin.take().expect("a pipe");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in output.split(0) {
                let Ok(message) = message else { return };
                let message = serde_json::from_slice(&message).expect("JSON from the browser");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            process,
            input,
            messages,
            events: Vec::new(),
            last: 0,
            session: None,
            scripts: true,
            _profile: profile,
        };
        let tab = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": tab["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", target);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.window(1200, 900);
        browser
    }

    /// Sends a command and waits for its answer.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).expect("the browser listens");
        loop {
            let answer = self.next(method);
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    #[track_caller]
    fn next(&mut self, waiting_for: &str) -> Value {
        let message = self.messages.recv_timeout(PATIENCE);
        message.unwrap_or_else(|_| panic!("the browser does not answer: {waiting_for}"))
    }

    /// Size of the view in CSS pixels.
    pub(crate) fn window(&mut self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Whether the reader's system is dark, and whether the page is to be printed.
    pub(crate) fn prefers(&mut self, scheme: &str, medium: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let media = json!({ "media": medium, "features": features });
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// Whether the reader's browser runs scripts.
    pub(crate) fn scripts(&mut self, run: bool) {
        self.scripts = run;
        self.call(
            "Emulation.setScriptExecutionDisabled",
            json!({ "value": !run }),
        );
    }

    /// Opens a file and waits until it has loaded.
    #[track_caller]
    pub(crate) fn open(&mut self, path: &Path) {
        self.events.clear();
        let url = format!("file://{}", path.display());
        self.call("Page.navigate", json!({ "url": url }));
        while !self
            .events
            .iter()
            .any(|it| it["method"] == "Page.loadEventFired")
        {
            let event = self.next("the page to load");
            self.events.push(event);
        }
        // Charts are drawn when their boxes have a width: two frames later.
        if self.scripts {
            self.frames();
        }
    }

    /// Waits until what was changed is drawn.
    pub(crate) fn frames(&mut self) {
        let frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))))";
        let frames = json!({ "expression": frames, "awaitPromise": true });
        self.call("Runtime.evaluate", frames);
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let request =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", request);
        let problem = &answer["exceptionDetails"];
        assert!(problem.is_null(), "{expression}: {problem}");
        answer["result"]["value"].clone()
    }

    #[track_caller]
    pub(crate) fn text(&mut self, expression: &str) -> String {
        let value = self.value(expression);
        let text = value.as_str();
        text.unwrap_or_else(|| panic!("{expression} is {value}"))
            .to_owned()
    }

    #[track_caller]
    pub(crate) fn number(&mut self, expression: &str) -> f64 {
        let value = self.value(expression);
        let number = value.as_f64();
        number.unwrap_or_else(|| panic!("{expression} is {value}"))
    }

    #[track_caller]
    pub(crate) fn holds(&mut self, expression: &str) -> bool {
        self.value(expression) == json!(true)
    }

    /// Clicks the middle of what a selector names, as a mouse does.
    #[track_caller]
    pub(crate) fn click(&mut self, selector: &str) {
        let (x, y) = self.middle(selector);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
        self.frames();
    }

    /// Puts the pointer over the middle of what a selector names.
    #[track_caller]
    pub(crate) fn hover(&mut self, selector: &str) {
        let (x, y) = self.middle(selector);
        for x in [x - 1.0, x] {
            let event = json!({ "type": "mouseMoved", "x": x, "y": y });
            self.call("Input.dispatchMouseEvent", event);
        }
        self.frames();
    }

    #[track_caller]
    fn middle(&mut self, selector: &str) -> (f64, f64) {
        let mut expression = String::new();
        let _ = write!(
            expression,
            "(() => {{ const it = document.querySelector({});
              it.scrollIntoView({{ block: 'center', behavior: 'instant' }});
              const box = it.getBoundingClientRect();
              return [box.x + box.width / 2, box.y + box.height / 2]; }})()",
            json!(selector)
        );
        let place = self.value(&expression);
        (
            place[0].as_f64().expect("a place"),
            place[1].as_f64().expect("a place"),
        )
    }

    /// Presses a key, such as `ArrowDown`, where the focus is.
    pub(crate) fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event);
        }
        self.frames();
    }

    /// Types a text where the focus is.
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
        self.frames();
    }

    /// Errors and warnings of the console, exceptions, refused loads, and dialogs.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let of = |event: &Value| {
            let it = &event["params"];
            let complaint = match event["method"].as_str()? {
                "Runtime.consoleAPICalled" => it["type"] == "error" || it["type"] == "warning",
                "Log.entryAdded" => it["entry"]["level"] != "info",
                "Runtime.exceptionThrown" | "Page.javascriptDialogOpening" => true,
                _ => false,
            };
            complaint.then(|| it.to_string())
        };
        self.events.iter().filter_map(of).collect()
    }

    /// Addresses that were asked for.
    pub(crate) fn requests(&self) -> Vec<String> {
        let sent = self.events.iter();
        let sent = sent.filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|event| {
            let url = event["params"]["request"]["url"].as_str();
            url.expect("an address").to_owned()
        })
        .collect()
    }

    /// A picture of the view, for a person to look at.
    pub(crate) fn screenshot(&mut self, path: &Path, whole: bool) {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let request = json!({ "format": "png", "captureBeyondViewport": whole });
        let picture = self.call("Page.captureScreenshot", request);
        let data = picture["data"].as_str().expect("a picture");
        let bytes = BASE64_STANDARD.decode(data).expect("base64");
        std::fs::write(path, bytes).expect("a file");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The shell has become the browser.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn find() -> String {
    let runs = |name: &&&str| {
        let mut command = Command::new(name);
        command
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = NAMES.iter().find(runs);
    let found =
        found.unwrap_or_else(|| panic!("no browser among {NAMES:?}; .ci/browser installs one"));
    (*found).to_owned()
}
