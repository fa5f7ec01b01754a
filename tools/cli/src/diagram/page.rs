//! The page that shows a history, and its parts for pages that show more.

use crate::diagram::History;
use crate::diagram::pack::pack;
use crate::picture::{escaped, style_sheet};

/// What every page of this program looks like.
const BASE_CSS: &str = include_str!("../lab/report/base.css");
/// The diagram's own style and script.
pub(crate) const PARTS_CSS: &str = include_str!("diagram.css");
/// The script: the data, then what is drawn, then what the reader does.
pub(crate) const PARTS_JS: &str =
    concat!(include_str!("data.js"), include_str!("draw.js"), include_str!("diagram.js"));

/// A page shows this many arrows at first.
const FIRST_ARROWS: usize = 400;

/// A page of its own, which asks nobody for anything.
pub(crate) fn page(history: &History) -> String {
    let style = style_sheet();
    let title = escaped(&history.source);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Space–time diagram of {title}</title>\n<style>\n{style}{BASE_CSS}{PARTS_CSS}</style>\n</head>\n\
         <body class=\"solo\">\n<header><h1>Space–time diagram</h1><p>of {title}</p></header>\n\
         <main>\n{}</main>\n<script>\n{PARTS_JS}</script>\n</body>\n</html>\n",
        element(history)
    )
}

/// The diagram for a page that has the style and the script.
pub(crate) fn element(history: &History) -> String {
    format!("<section class=\"spacetime\" data-columns=\"{}\"></section>\n", pack(history, FIRST_ARROWS))
}
