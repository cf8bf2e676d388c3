//! The parts that the pages of a report and of a comparison have in common.
//!
//! Owns the frame of a page, the escaping of foreign text by [`Html`], and figures with their
//! legends. A page is self-contained: it loads and runs nothing, and its Content-Security-Policy
//! forbids it. It decides nothing about contents.

use std::fmt::{self, Display, Write};

use super::plot::{HALF, Plot};

const STYLE: &str = include_str!("page.css");
/// CSS classes of lines that differ by colour only, in order of use.
pub(super) const COLOURS: [&str; 8] = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"];

/// Returns a page with this title and content.
pub(super) fn document(title: &str, content: &str) -> String {
    let title = Html(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         {content}</main>\n</body>\n</html>\n"
    )
}

/// Displays text escaped for HTML, between tags and in attributes.
pub(super) struct Html<'a>(pub(super) &'a str);

impl Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            '\n' => f.write_char('\n'),
            character if character.is_control() => f.write_char(char::REPLACEMENT_CHARACTER),
            character => f.write_char(character),
        })
    }
}

/// Returns a plot with its heading, legend and caption. A plot that is wider than a narrow window
/// has a second form for it, and the style sheet shows one of them: scaled down, its text would be
/// too small to read.
pub(super) fn figure(name: &str, legend: &str, plot: &Plot, caption: &str) -> String {
    let mut text = "<figure>\n".to_owned();
    if !name.is_empty() {
        let _ = writeln!(text, "<h3>{}</h3>", Html(name));
    }
    text += legend;
    if plot.size.width > HALF.width {
        let (broad, narrow) = (plot.svg(plot.size), plot.svg(HALF));
        let _ = writeln!(
            text,
            "<div class=\"broad\">\n{broad}</div>\n<div class=\"narrow\">\n{narrow}</div>"
        );
    } else {
        text += &plot.svg(plot.size);
    }
    if !caption.is_empty() {
        let _ = writeln!(text, "<figcaption>{}</figcaption>", Html(caption));
    }
    text + "</figure>\n"
}

/// Returns a legend of lines: CSS class and name.
pub(super) fn legend_of<'a>(lines: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = "<ul class=\"legend\">".to_owned();
    for (class, name) in lines {
        let _ = write!(text, "<li><i class=\"{class}\"></i>{}</li>", Html(name));
    }
    text + "</ul>\n"
}

/// Returns names and values below a heading, or an empty text if there are none.
pub(super) fn list(heading: &str, rows: impl IntoIterator<Item = (String, String)>) -> String {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return String::new();
    }
    let mut text = format!("<dl>\n<dt><b>{heading}</b></dt><dd></dd>\n");
    for (name, value) in rows {
        let _ = writeln!(text, "<dt>{}</dt><dd>{}</dd>", Html(&name), Html(&value));
    }
    text + "</dl>\n"
}

/// Returns lines in a box with a heading, or an empty text if there are none.
pub(super) fn warning<'a>(heading: &str, lines: impl IntoIterator<Item = &'a str>) -> String {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        return String::new();
    }
    let mut text = format!("<aside>\n<b>{}</b>\n<ul>\n", Html(heading));
    for line in lines {
        let _ = writeln!(text, "<li>{}</li>", Html(line));
    }
    text + "</ul>\n</aside>\n"
}
