//! The review as one page that needs nothing else: no script, no font, no picture from anywhere.

use std::fmt::Write as _;

use super::{Review, markdown};

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#59636e;--line:#d5dae0;--soft:#f5f7f9;--crit:#b3121d;\
--high:#b54708;--medium:#8a6100;--low:#3f5b7a}\
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e3e7ec;--dim:#98a2ad;--line:#333a42;--soft:#1d2228;\
--crit:#ff7a7f;--high:#ffa657;--medium:#e3c04d;--low:#8fb4de}}\
*{box-sizing:border-box}body{margin:0 auto;max-width:74rem;padding:2rem 1.25rem 4rem;background:var(--bg);color:var(--fg);\
font:15px/1.5 system-ui,sans-serif}h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .4rem}\
p{margin:.3rem 0}.dim{color:var(--dim)}.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(8rem,1fr));\
gap:.6rem;margin:1.2rem 0}.numbers div{background:var(--soft);border:1px solid var(--line);border-radius:6px;\
padding:.5rem .7rem}.numbers b{display:block;font-size:1.15rem;font-variant-numeric:tabular-nums}\
ol{list-style:none;margin:.6rem 0;padding:0}ol li{border:1px solid var(--line);border-left:4px solid var(--c);\
border-radius:4px;margin:.4rem 0;padding:.45rem .75rem;break-inside:avoid}.critical{--c:var(--crit)}.high{--c:var(--high)}\
.medium{--c:var(--medium)}.low{--c:var(--low)}.tag{color:var(--c);font-size:.78rem;font-weight:700;\
letter-spacing:.04em;text-transform:uppercase;margin-right:.5rem}code{font:13px/1.4 ui-monospace,monospace;\
background:var(--soft);border-radius:3px;padding:.1rem .3rem;overflow-wrap:anywhere;user-select:all}\
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;margin:.5rem 0}th,td{text-align:left;vertical-align:top;\
padding:.28rem .7rem .28rem 0;border-bottom:1px solid var(--line);overflow-wrap:break-word}th{color:var(--dim);\
font-weight:600;white-space:nowrap}td{min-width:4.5rem;max-width:24rem;font-variant-numeric:tabular-nums}\
td:first-child{min-width:9rem}.time{white-space:nowrap}\
@media print{body{max-width:none;padding:0;font-size:11px}h2{break-after:avoid}tr{break-inside:avoid}\
.wide{overflow:visible}code{border:1px solid var(--line)}}";

/// Text as text, wherever it comes from.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What turns the reading direction round could make a name look like another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
                out.push('\u{fffd}')
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A sentence of ours, in which commands stand between backticks.
fn with_code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(n, part)| match (n % 2, escape(part)) {
        (1, command) => format!("<code>{command}</code>"),
        (_, words) => words,
    });
    parts.collect()
}

/// Lets labels and subjects go on in the next line where one of their parts ends. It takes escaped text: no entity has one
/// of these in it.
fn with_breaks(cell: &str) -> String {
    let parts = cell.split_inclusive(['/', '+', '.']).collect::<Vec<_>>();
    parts.join("<wbr>")
}

/// Whether a cell is a time as [`markdown::time`] writes it: broken in two it is hard to read.
fn is_time(cell: &str) -> bool {
    cell.len() == "2026-01-31 12:00".len()
        && cell.bytes().zip(b"dddd-dd-dd dd:dd").all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            form => byte == *form,
        })
}

/// The report as a page.
#[must_use]
pub fn html(review: &Review) -> String {
    let bus = escape(&review.bus);
    let team = review.team.as_ref().map(|team| format!(", team {}", escape(team))).unwrap_or_default();
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Review of {bus}{team}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Review of {bus}{team}</h1>\n<p class=\"dim\">{} to {} (UTC) · {} log entries",
        markdown::time(review.since),
        markdown::time(review.until),
        review.entries,
    );
    if !review.compared {
        out.push_str(" · the log does not reach back over the period before, so nothing is compared with it");
    }
    out.push_str("</p>\n<div class=\"numbers\">\n");
    for (number, what) in markdown::numbers(review) {
        let _ = writeln!(out, "<div><b>{}</b>{}</div>", escape(&number), escape(&what));
    }
    out.push_str("</div>\n<h2>Look at this first</h2>\n");
    if review.findings.is_empty() {
        out.push_str("<p>Nothing stands out.</p>\n");
    }
    out.push_str("<ol>\n");
    for finding in &review.findings {
        let severity = finding.severity.code();
        let (title, command) = (escape(&finding.title), escape(&finding.command));
        let detail = escape(&finding.detail);
        let dot = if detail.is_empty() { "" } else { " · " };
        let _ = writeln!(
            out,
            "<li class=\"{severity}\"><span class=\"tag\">{severity}</span><strong>{title}</strong>\
             <span class=\"dim\">{dot}{detail}</span><br><code>{command}</code></li>"
        );
    }
    out.push_str("</ol>\n");
    for section in markdown::sections(review) {
        let _ = writeln!(out, "<h2>{}</h2>", escape(section.title));
        if section.rows.is_empty() {
            let _ = writeln!(out, "<p class=\"dim\">{}</p>", escape(section.none));
            continue;
        }
        if !section.about.is_empty() {
            let _ = writeln!(out, "<p class=\"dim\">{}</p>", with_code(section.about));
        }
        out.push_str("<div class=\"wide\"><table>\n<thead><tr>");
        for title in section.head {
            let _ = write!(out, "<th>{}</th>", escape(title));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &section.rows {
            out.push_str("<tr>");
            for text in row {
                let class = if is_time(text) { " class=\"time\"" } else { "" };
                let _ = write!(out, "<td{class}>{}</td>", with_breaks(&escape(text)));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table></div>\n");
        if section.all > section.rows.len() {
            let more = section.all - section.rows.len();
            let _ = writeln!(out, "<p class=\"dim\">and {more} more: <code>sealbus review --json</code></p>");
        }
    }
    out.push_str("</body>\n</html>\n");
    out
}
