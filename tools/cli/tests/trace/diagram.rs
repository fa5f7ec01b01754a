//! Space–time diagrams: what they say of a trace, and what a reader can do with the page in a browser.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::browser::{Browser, Mouse};
use crate::support::{json as document, raftgram};

/// A simulated cluster under all faults, as a trace; one for all tests.
pub(crate) fn simulated() -> &'static Path {
    static TRACE: OnceLock<PathBuf> = OnceLock::new();
    TRACE.get_or_init(|| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("diagram.jsonl");
        let path = file.to_str().unwrap();
        let output = raftgram(&["sim", "--seed", "7", "--time", "2s", "--faults", "all", "--trace", path]);
        assert!(output.status.success(), "{output:?}");
        file
    })
}

fn diagram(trace: &Path, out: &Path, more: &[&str]) -> (i32, Value) {
    let named = ["--json", "trace", "diagram", trace.to_str().unwrap(), "--out", out.to_str().unwrap()];
    document(&raftgram(&[&named[..], more].concat()))
}

#[test]
fn each_datagram_is_one_arrow_and_each_format_shows_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let trace = simulated();
    let (code, counted) = document(&raftgram(&["--json", "trace", "check", trace.to_str().unwrap()]));
    assert_eq!(code, 0, "{counted}");
    let counts = &counted["files"][0]["datagrams"];
    let out = |ending: &str| folder.path().join(format!("out.{ending}"));
    let (code, drawn) = diagram(trace, &out("html"), &[]);
    assert_eq!(code, 0, "{drawn}");
    // Every arrival has its departure in this file, so each that was sent is an arrow, and each copy another one.
    let copies = counts["duplicated"].as_u64().unwrap_or(0);
    let arrows = drawn["datagrams"].as_u64().unwrap();
    let sent = counts["sent"].as_u64().unwrap();
    assert!((sent..=sent + copies).contains(&arrows), "{drawn} {counts}");
    assert_eq!(drawn["shown"], drawn["datagrams"]);
    let window = ["--from", "590ms", "--to", "610ms"];
    for (ending, begin) in [("svg", "<svg "), ("mmd", "sequenceDiagram\n"), ("png", "")] {
        let (code, drawn) = diagram(trace, &out(ending), &window);
        assert_eq!(code, 0, "{drawn}");
        assert!(drawn["shown"].as_u64().unwrap() > 0 && drawn["shown"].as_u64().unwrap() < arrows);
        let bytes = std::fs::read(out(ending)).unwrap();
        assert!(bytes.starts_with(begin.as_bytes()), "{ending}");
        if ending == "png" {
            assert_eq!(bytes[..4], *b"\x89PNG");
        }
    }
    let mermaid = std::fs::read_to_string(out("mmd")).unwrap();
    assert!(mermaid.contains("leader, term 1") && mermaid.contains("heartbeat"), "{mermaid}");
}

#[test]
fn what_cannot_be_drawn_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let trace = simulated();
    let out = |name: &str| folder.path().join(name);
    let cases: [(&str, &[&str], i32, &str); 5] = [
        ("a.pdf", &[], 2, "must end in .html, .svg, .png or .mmd"),
        ("a.svg", &["--from", "2s", "--to", "1s"], 2, "--to must be after --from"),
        ("a.svg", &["--from", "9h"], 2, "the trace ends"),
        ("a.mmd", &["--from", "0s"], 2, "a picture shows 500"),
        ("none/a.html", &[], 1, "No such file"),
    ];
    for (name, more, expected, why) in cases {
        let (code, answer) = diagram(trace, &out(name), more);
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!((code, message.contains(why)), (expected, true), "{name}: {answer}");
    }
    let (code, answer) = diagram(&out("nothing.jsonl"), &out("a.html"), &[]);
    assert_eq!((code, &answer["error"]["code"]), (1, &json!("failed")));
}

/// The middle of the first arrow of a kind that is drawn, on the page.
fn place_of(browser: &mut Browser, kind: &str) -> (f64, f64) {
    let place = browser.eval(&format!(
        "(() => {{ const {{ sheet, history }} = document.querySelector('.spacetime').diagram;
           const i = sheet.shown.find((i) => history.kinds[history.kind[i]].name === '{kind}');
           const [x0, y0, x1, y1] = sheet.ends(i), box = sheet.canvas.getBoundingClientRect();
           return [box.left + (x0 + 2 * x1) / 3, box.top + (y0 + 2 * y1) / 3]; }})()"
    ));
    (place[0].as_f64().unwrap(), place[1].as_f64().unwrap())
}

#[test]
fn a_reader_can_point_zoom_move_filter_and_take_a_part_away() {
    let Some(mut browser) = Browser::start("the diagram's page") else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("run.html");
    let (code, drawn) = diagram(simulated(), &page, &[]);
    assert_eq!(code, 0, "{drawn}");
    browser.open_file(&page);
    let root = "document.querySelector('.spacetime')";
    browser.wait_for(&format!("{root}.dataset.count > 0"));
    let length = format!("{root}.dataset.to - {root}.dataset.from");
    let whole = browser.eval(&length).as_f64().unwrap();

    // A window around the first election, in which flights can be told apart.
    browser.eval(&format!("{root}.diagram.show(599.4e6, 599.6e6)"));
    browser.wait_for(&format!("{length} < 1e6"));
    let painted = "(() => { const c = document.querySelector('.sheet'), p = c.getContext('2d')
        .getImageData(0, 0, c.width, c.height).data, seen = new Set();
        for (let i = 0; i < p.length; i += 4) if (p[i + 3]) seen.add(p[i] << 16 | p[i + 1] << 8 | p[i + 2]);
        return seen.size; })()";
    assert!(browser.eval(painted).as_u64().unwrap() > 20);

    let (x, y) = place_of(&mut browser, "vote-reply");
    browser.mouse(Mouse::Move, x, y);
    browser.wait_for("!document.querySelector('.tip').hidden");
    let tip = browser.eval("document.querySelector('.tip').innerText").as_str().unwrap().to_owned();
    assert!(tip.contains("vote-reply") && tip.contains("term=1") && tip.contains("node 2"), "{tip}");
    browser.click(x, y);
    browser.wait_for("document.querySelector('.picked').innerText.includes('vote-reply granted')");

    let before = browser.eval(&length).as_f64().unwrap();
    browser.wheel(x, y, -120.0);
    browser.wait_for(&format!("{length} < {before} * 0.9"));
    let begin = browser.eval(&format!("+{root}.dataset.from")).as_f64().unwrap();
    browser.mouse(Mouse::Press, x, y);
    browser.mouse(Mouse::Move, x - 200.0, y);
    browser.mouse(Mouse::Release, x - 200.0, y);
    browser.wait_for(&format!("+{root}.dataset.from > {begin}"));

    browser.eval("document.querySelector('.whole').click()");
    browser.wait_for(&format!("{length} > {whole} && +{root}.dataset.count > 1000"));
    browser.eval("document.querySelector('[data-only=lost]').click()");
    browser.wait_for(&format!(
        "+{root}.dataset.count === {root}.diagram.history.events.loss.length - \
        {root}.diagram.history.flags.filter((f) => (f & 7) === 2).length"
    ));
    browser.eval("document.querySelector('[data-only=lost]').click()");
    browser.eval(
        "(() => { const s = document.querySelector('.search'); s.value = 'append term=1 index=1'; \
        s.dispatchEvent(new Event('input')); })()",
    );
    browser.wait_for(&format!("+{root}.dataset.count > 0 && +{root}.dataset.count < 100"));
    browser.eval("document.querySelector('.mermaid').click()");
    browser.wait_for("document.querySelector('dialog').open");
    let mermaid = browser.eval("document.querySelector('textarea').value").as_str().unwrap().to_owned();
    assert!(
        mermaid.starts_with("sequenceDiagram\n") && mermaid.contains("append term=1 index=1"),
        "{mermaid}"
    );

    browser.eval("document.querySelector('.close').click()");
    stays_quick(&mut browser);
    assert_eq!(browser.complaints(), [""; 0]);
    assert!(browser.requests().iter().all(|url| url.starts_with("file://")), "{:?}", browser.requests());
    assert_eq!(browser.requests().len(), 1);
}

/// A million events in the page that is open.
fn stays_quick(browser: &mut Browser) {
    // The same history so many times over that it has half a million arrows, a million events.
    let grow = "(() => { const d = document.querySelector('.spacetime').diagram, h = d.history, n = h.arrows;
        const times = Math.ceil(500000 / n), all = n * times;
        const grown = (column, step) => { const out = new column.constructor(all + (column.length - n));
          for (let k = 0; k < times; k++) for (let i = 0; i < n; i++) out[k * n + i] = column[i] + k * step;
          return out; };
        h.sent = grown(h.sent, h.end); h.ended = grown(h.ended, h.end);
        for (const name of ['from', 'to', 'kind', 'flags', 'arrowText']) h[name] = grown(h[name], 0);
        h.arrows = all; h.end *= times; h.index(); d.bins = null; d.sheet.matching = null; d.show(0, h.end);
        return all; })()";
    assert!(browser.eval(grow).as_u64().unwrap() >= 500_000);
    browser.wait_for("document.querySelector('.spacetime').dataset.count >= 500000");
    // What is drawn is bounded by the screen, not by the trace; a window reads the blocks that touch it only.
    let drawn = browser.eval("document.querySelector('.spacetime').diagram.sheet.shown.length");
    assert!((1000..60_000).contains(&drawn.as_u64().unwrap()), "{drawn}");
    let visited = browser.eval(
        "(() => { const d = document.querySelector('.spacetime').diagram; let visited = 0;
          d.history.within(d.history.end / 2, d.history.end / 2 + 1e6, () => visited++); return visited; })()",
    );
    assert!(visited.as_u64().unwrap() < 1000, "{visited}");
}
