//! The page of the server and players in a real Chromium, driven by Playwright (`browser.js`,
//! `players.js`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::codecs::{AV1_FLAC, TWO_TRACKS, VP9_AC3};
use crate::lab::clip::{Film, MAIN_CODECS, clip};
use crate::lab::ffmpeg::Build;
use crate::lab::http_matrix::{Over, WebPlayer};
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
    let Some(lab) = Lab::open_browser("browser", &needs) else { return };
    let token_file = lab.path("token");
    fs::write(&token_file, TOKEN).expect("a file with the token");
    let settings = format!("{SHORT_LINGER}[api]\ntoken_file = {token_file:?}\n");
    let server = Server::start_with(&lab, &settings);
    let driver = programs().join(PLAYWRIGHT);
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

/// Where `tests/run` puts the player that a page of FLV would have.
const MPEGTS: &str = "mpegts.js";

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/programs")
}

const NEEDS: [Need; 5] = [
    Need::Program("ffmpeg"),
    Need::Program("chromium"),
    Need::Program("playwright/playwright/driver/node"),
    Need::Program(MPEGTS),
    Need::OwnServer,
];

/// Lets Chromium play a stream, which `publish` begins, with `players` of `players.js`.
fn expect_played(lab: &Lab, players: &[&str], publish: impl FnOnce(&str) -> Program) {
    let server = Server::start(lab);
    let key = format!("live/{}", lab.name());
    let driver = programs().join(PLAYWRIGHT);
    let mut command = Command::new(driver.join("node"));
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/players.js"))
        .arg(driver.join("package"))
        .arg(programs().join(MPEGTS))
        .arg(server.http_url(&key))
        .args(players);
    let browser = Program::start(lab.path(""), "players", &mut command);
    expect_soon("the page is open", || browser.output_text().contains("open"));
    let publisher = publish(&server.url(&key));
    browser.finish(END);
    drop(publisher);
}

const ALL_PLAYERS: [(&str, WebPlayer, Over); 5] = [
    ("mpegts", WebPlayer::Mpegts, Over::Flv),
    ("mpegts-websocket", WebPlayer::Mpegts, Over::WebSocketFlv),
    ("mse", WebPlayer::Mse, Over::Mp4),
    ("mse-websocket", WebPlayer::Mse, Over::WebSocketMp4),
    ("element", WebPlayer::Element, Over::Mp4),
];

/// Lets `players` play a stream, and records that they did.
fn expect_proven(
    lab: &Lab,
    players: &[(&str, WebPlayer, Over)],
    codecs: &[&str],
    publish: impl FnOnce(&str) -> Program,
) {
    let names: Vec<_> = players.iter().map(|(name, ..)| *name).collect();
    expect_played(lab, &names, publish);
    players.iter().for_each(|(_, player, over)| lab.proves_over(*player, *over, codecs));
}

#[test]
fn players_in_a_browser_play_h264_with_aac() {
    let Some(lab) = Lab::open_browser("browser_h264", &NEEDS) else { return };
    let clip = clip(Film::Main, 9);
    let publish = |url: &str| ffmpeg::publish(&lab, "publisher", &clip, url);
    expect_proven(&lab, &ALL_PLAYERS, &MAIN_CODECS, publish);
}

/// The current ffmpeg sends AV1 and FLAC in the form of Enhanced RTMP. mpegts.js 1.8 knows both,
/// but throws on sequence headers of SVT-AV1 and writes a box for FLAC that Chromium refuses.
#[test]
fn players_in_a_browser_play_av1_with_flac() {
    let needs = [&NEEDS[..], &[Build::Current.need()]].concat();
    let Some(lab) = Lab::open_browser("browser_av1", &needs) else { return };
    let film = AV1_FLAC.make(&lab);
    let publish = |url: &str| Build::Current.publish(&lab, "publisher", &film, &[], url);
    expect_proven(&lab, &ALL_PLAYERS[2..], AV1_FLAC.codecs, publish);
}

/// mpegts.js stops at messages of several tracks and at a codec by its FourCC, unless the server
/// sends one track of each kind in the form of old. The other track is HEVC, which Chromium does
/// not decode.
#[test]
fn mpegts_js_plays_a_stream_of_several_tracks() {
    let needs = [&NEEDS[..], &[Build::Current.need()]].concat();
    let Some(lab) = Lab::open_browser("browser_tracks", &needs) else { return };
    let film = TWO_TRACKS.make(&lab);
    let publish = |url: &str| Build::Current.publish(&lab, "publisher", &film, &[], url);
    expect_played(&lab, &["mpegts", "mpegts-websocket?audio=0"], publish);
}

/// Chromium has no decoder for AC-3, so the sound is left out.
#[test]
fn mse_plays_vp9_without_its_sound() {
    let needs = [&NEEDS[..], &[Build::Current.need()]].concat();
    let Some(lab) = Lab::open_browser("browser_vp9", &needs) else { return };
    let film = VP9_AC3.make(&lab);
    let publish = |url: &str| Build::Current.publish(&lab, "publisher", &film, &[], url);
    expect_played(&lab, &["mse?audio=0", "mse-websocket?codecs=vp09,opus"], publish);
    for over in [Over::Mp4, Over::WebSocketMp4] {
        lab.proves_over(WebPlayer::Mse, over, &VP9_AC3.codecs[..1]);
    }
}
