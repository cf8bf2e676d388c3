//! The manual: how to run, secure, measure, test and change Tiderace.
//!
//! The README is the place to begin. Every page is a Markdown file in `src/manual/`, which reads
//! well in a repository, too.
//!
//! | for operators | |
//! |---|---|
//! | [`running`] | starting, signals, systemd, log lines, close reasons, exit codes |
//! | [`configuration`] | every setting with its default, values and meaning |
//! | [`access_control`] | stream keys, users, reloads |
//! | [`http`] | the page, players over HTTP and WebSocket, metrics, the API |
//! | [`clients`] | which client publishes and plays which codec |
//! | [`encoders`] | names, messages, timestamps and quirks of encoders and players |
//! | [`debugging`] | from what you see to its cause |
//! | [`measuring`] | `tiderace load` |
//! | [`load_figures`] | every figure of `tiderace load`: unit, meaning, when it is valid |
//! | [`figures`] | what things cost, next to other servers, and how that is measured |
//! | [`comparing`] | measuring another server beside, with fair settings |
//!
//! | for developers | |
//! |---|---|
//! | [`architecture`] | layers, the data path, a tour of the source |
//! | [`invariants`] | what must not break |
//! | [`testing`] | the suites; one seed, one client, one attack, one fuzz target |
//! | [`performance`] | instructions, callgrind, benches |
//! | [`glossary`] | the coined words |

// In front of each page come the definitions by which rustdoc resolves its links. The page has its
// own at its end, for readers of the file: of two definitions of one label the first counts.

#[doc = include_str!("links.md")]
#[doc = include_str!("running.md")]
pub mod running {}

#[doc = include_str!("links.md")]
#[doc = include_str!("configuration.md")]
pub mod configuration {}

#[doc = include_str!("links.md")]
#[doc = include_str!("access_control.md")]
pub mod access_control {}

#[doc = include_str!("links.md")]
#[doc = include_str!("http.md")]
pub mod http {}

#[doc = include_str!("links.md")]
#[doc = include_str!("clients.md")]
pub mod clients {}

#[doc = include_str!("links.md")]
#[doc = include_str!("encoders.md")]
pub mod encoders {}

#[doc = include_str!("links.md")]
#[doc = include_str!("debugging.md")]
pub mod debugging {}

#[doc = include_str!("links.md")]
#[doc = include_str!("measuring.md")]
pub mod measuring {}

#[doc = include_str!("links.md")]
#[doc = include_str!("load_figures.md")]
pub mod load_figures {}

#[doc = include_str!("links.md")]
#[doc = include_str!("figures.md")]
pub mod figures {}

#[doc = include_str!("links.md")]
#[doc = include_str!("comparing.md")]
pub mod comparing {}

#[doc = include_str!("links.md")]
#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("links.md")]
#[doc = include_str!("invariants.md")]
pub mod invariants {}

#[doc = include_str!("links.md")]
#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("links.md")]
#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("links.md")]
#[doc = include_str!("glossary.md")]
pub mod glossary {}
