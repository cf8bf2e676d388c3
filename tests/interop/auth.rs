//! Logins and stream keys as encoders use them: who is admitted, and what a refused encoder shows
//! (conformance row CM-33).

use std::time::Duration;

use crate::lab::clip::{Film, clip};
use crate::lab::server::{SHORT_LINGER, Server};
use crate::lab::{Lab, Need, ffmpeg};
use crate::publish::{PARSERS, Screen, start_gstreamer, start_obs};
use crate::support::wait_until;

const USERS: &str = "[apps.live.users]\nbob = \"s3cret\"\n\
    [apps.digest]\nauthmod = \"llnw\"\n[apps.digest.users]\nbob = \"s3cret\"\n";
const KEYS: &str = "[apps.live.keys]\nshow = \"only-the-publisher\"\n\
    [apps.listed]\nkeys = [\"everybody-in-it\"]\n";
/// Texts that must not appear in a log, and a wrong password.
const SECRETS: [&str; 4] = ["s3cret", "only-the-publisher", "everybody-in-it", "wr0ng"];

/// A server that requires credentials.
struct Guarded {
    lab: Lab,
    server: Server,
}

impl Guarded {
    fn start(test: &str, needs: &[Need], settings: &str) -> Option<Self> {
        let needs = [&[Need::Program("ffmpeg"), Need::OwnServer], needs].concat();
        let lab = Lab::open(test, &needs)?;
        let server = Server::start_with(&lab, &format!("{SHORT_LINGER}{settings}"));
        Some(Self { lab, server })
    }

    fn url(&self, credentials: &str, path: &str) -> String {
        self.server.url(path).replace("://", &format!("://{credentials}"))
    }

    /// Publishes with ffmpeg and expects `plays` to deliver every packet.
    fn expect_played(&self, credentials: &str, publishes: &str, plays: &str) {
        let film = clip(Film::Main, 4);
        let url = self.url(credentials, publishes);
        let _publisher = ffmpeg::publish(&self.lab, "publisher", &film, &url);
        let player = ffmpeg::record(&self.lab, "player", &self.server.url(plays));
        let span = player.finish(Duration::from_secs(15)).expect_contiguous_in(&film.frames);
        assert_eq!(span.video.end, film.frames.video.len(), "{publishes}: {span:?}");
    }

    /// Expects ffmpeg to be refused, to end at once and to print `message`.
    fn expect_refused(&self, credentials: &str, path: &str, message: &str) {
        let url = self.url(credentials, path);
        let film = clip(Film::Main, 4);
        let mut publisher = ffmpeg::publish(&self.lab, "refused", &film, &url);
        let status = publisher.wait(Duration::from_secs(3));
        let text = publisher.error_text();
        assert!(!status.success() && text.contains(message), "{url}: {text}");
    }

    fn wait_for_log(&self, text: &str) {
        let found = wait_until(Duration::from_secs(5), || self.server.log().contains(text));
        assert!(found, "{text:?} is not in the log:\n{}", self.server.log());
    }

    fn expect_no_secret_in_the_log(&self) {
        let log = self.server.log();
        let line = log.lines().find(|line| SECRETS.iter().any(|secret| line.contains(secret)));
        assert_eq!(line, None);
    }
}

#[test]
fn cm_33_ffmpeg_logs_in_with_three_connections() {
    let Some(lab) = Guarded::start("auth_right", &[], USERS) else { return };
    for (path, user) in [("live/a", "bob"), ("live/b/c", "bob"), ("digest/a", "bob")] {
        let before = lab.server.log().matches("login_begun").count();
        lab.expect_played("bob:s3cret@", path, path);
        lab.wait_for_log(&format!("publishes {path} as {user}"));
        let steps = lab.server.log().matches("login_begun").count() - before;
        assert_eq!(steps, 2, "connections of {path} before the last one");
    }
    lab.expect_no_secret_in_the_log();
}

#[test]
fn cm_33_ffmpeg_says_what_is_wrong_with_a_login() {
    let Some(lab) = Guarded::start("auth_wrong", &[], USERS) else { return };
    for app in ["live", "digest"] {
        let path = format!("{app}/a");
        lab.expect_refused("bob:wr0ng@", &path, "Incorrect username/password");
        lab.expect_refused("eve:s3cret@", &path, "Incorrect username/password");
        lab.expect_refused("", &path, "No credentials set");
    }
    lab.wait_for_log("login_failed (wrong password of bob)");
    lab.wait_for_log("login_failed (no such user)");
    assert!(!lab.server.log().contains("publishes"), "{}", lab.server.log());
    lab.expect_no_secret_in_the_log();
}

#[test]
fn cm_33_gstreamer_logs_in() {
    let elements = ["rtmp2sink", "flvmux", "aacparse", "h264parse"].map(Need::Element);
    let Some(lab) = Guarded::start("auth_gst", &elements, USERS) else { return };
    let film = clip(Film::Main, 4);
    let url = lab.url("bob:s3cret@", "live/gst");
    let _publisher = start_gstreamer(&lab.lab, "rtmp2sink", PARSERS, &film.path, &url);
    lab.wait_for_log("publishes live/gst as bob");
    lab.server.wait_for_stream("live", "gst");
}

/// OBS uses librtmp.
#[test]
fn cm_33_obs_logs_in() {
    let needs = [Need::Program("obs"), Need::Program("Xvfb"), Need::OwnServer];
    let Some(lab) = Lab::open_alone("auth_obs", &needs) else { return };
    let server = Server::start_with(&lab, USERS);
    let screen = Screen::start(&lab);
    let login = r#", "use_auth": true, "username": "bob", "password": "s3cret""#;
    let _obs = start_obs(&lab, &screen, &server.url("live"), login);
    let line = "publishes live/obs as bob";
    let published = wait_until(Duration::from_secs(40), || server.log().contains(line));
    assert!(published, "{}", server.log());
    server.wait_for_stream("live", "obs");
}

#[test]
fn stream_keys_let_publishers_in_and_stay_out_of_the_log() {
    let Some(lab) = Guarded::start("auth_keys", &[], KEYS) else { return };
    lab.expect_played("", "live/only-the-publisher", "live/show");
    lab.expect_played("", "live/only-the-publisher?x=1", "live/only-the-publisher");
    lab.expect_played("", "listed/everybody-in-it", "listed/everybody-in-it");
    for path in ["live/show", "live/wr0ng", "listed/wr0ng", "listed/wr0ng/everybody-in-it"] {
        lab.expect_refused("", path, "Server error: no such stream key here");
    }
    lab.wait_for_log("publishes live/show");
    lab.wait_for_log("plays listed/…");
    lab.wait_for_log("publisher of listed/…");
    lab.expect_no_secret_in_the_log();
}

#[test]
fn a_reload_changes_users_and_keys_and_names_no_secret() {
    let Some(lab) = Guarded::start("auth_reload", &[], "") else { return };
    lab.expect_played("", "live/everybody-in-it", "live/everybody-in-it");
    let open = lab.server.log();
    lab.server.reload(&format!("{SHORT_LINGER}{USERS}"));
    lab.wait_for_log("apps.live.users none -> 1 user");
    lab.expect_refused("", "live/a", "No credentials set");
    lab.expect_played("bob:s3cret@", "live/a", "live/a");
    lab.server.reload(&format!("{SHORT_LINGER}{KEYS}"));
    lab.wait_for_log("key \"apps.live.users\": 1 user would be lost");
    lab.expect_refused("", "live/a", "No credentials set");
    let released = "[apps.live]\nusers = \"any\"\n[apps.digest]\nusers = \"any\"\n";
    lab.server.reload(&format!("{SHORT_LINGER}{released}{KEYS}"));
    lab.wait_for_log("apps.live.keys none -> 1 key");
    lab.wait_for_log("apps.live.users 1 user -> none");
    lab.expect_played("", "live/only-the-publisher", "live/show");
    lab.server.reload("[apps.live]\nkeys = \"wr0ng\"\n");
    lab.wait_for_log("key \"apps.live.keys\": got a string, expected a list of keys");
    let log = lab.server.log();
    let since = &log[open.len()..];
    assert!(!SECRETS.iter().any(|secret| since.contains(secret)), "{since}");
}
