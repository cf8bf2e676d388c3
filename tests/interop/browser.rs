//! The page of the server in a real Chromium, driven by Playwright (`browser.js`).

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::clip::{Film, clip};
use crate::lab::server::{SHORT_LINGER, Server};
use crate::lab::{Lab, Need, ffmpeg};
use crate::support::expect_soon;
use crate::support::program::Program;

/// Where `tests/run` puts Playwright.
const PLAYWRIGHT: &str = "playwright/playwright/driver";
const TOKEN: &str = "0123456789abcdef";
/// A name that would be bold if the page took it for markup.
const STREAM: &str = "live/<b>bold";
/// A browser takes some seconds to start on a machine with other work.
const END: Duration = Duration::from_secs(60);

#[test]
fn a_stream_appears_on_the_open_page_plays_in_it_and_ends_when_its_publisher_is_kicked() {
    let needs = [
        Need::Program("ffmpeg"),
        Need::Program("chromium"),
        Need::Program("playwright/playwright/driver/node"),
        Need::OwnServer,
    ];
    let Some(lab) = Lab::open("browser", &needs) else { return };
    let token_file = lab.path("token");
    fs::write(&token_file, TOKEN).expect("a file with the token");
    let settings = format!("{SHORT_LINGER}[api]\ntoken_file = {token_file:?}\n");
    let server = Server::start_with(&lab, &settings);
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/programs").join(PLAYWRIGHT);
    let mut command = Command::new(driver.join("node"));
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/browser.js"))
        .arg(driver.join("package"))
        .arg(server.http_url(""))
        .arg(STREAM)
        .arg(lab.path("page.png"))
        .arg(TOKEN);
    let browser = Program::start(lab.path(""), "browser", &mut command);
    expect_soon("the page is open", || browser.output_text().contains("open"));
    let clip = clip(Film::Main, 9);
    let publisher = ffmpeg::publish(&lab, "publisher", &clip, &server.url(STREAM));
    browser.finish(END);
    drop(publisher);
}
