//! Permission to publish, and the spelling of names.

use std::time::{Duration, Instant};

use crate::attacker::SOON;
use crate::healthy::{Habits, Pace};
use crate::support::wait_until;
use crate::trial::{CANARY, Trial};
use crate::wire::{self, command, null, number, string};

pub(super) fn c01(trial: &mut Trial<'_>) {
    let wrong = trial.publisher("not a key of it");
    trial.closes("a wrong key", wrong, "key_refused");
    let mut right = trial.publisher(CANARY);
    right.send(&wire::video(0, wire::AVC_KEYFRAME).chunks());
    trial.closes("the right key", right, "already_publishing");
}

pub(super) fn c01_replace(trial: &mut Trial<'_>) {
    let first = trial.feed("c01", Pace::CANARY);
    let viewer = trial.viewer("c01", Habits::default());
    let plays = wait_until(SOON, || viewer.seen().frames > 25);
    let second = trial.feed("c01", Pace::CANARY);
    let took_over = wait_until(SOON, || first.is_broken());
    let frames = viewer.seen().frames;
    let goes_on = wait_until(SOON, || viewer.seen().frames > frames + 25);
    trial.verdict.expect(plays && took_over && !second.is_broken(), || "no takeover".to_owned());
    trial.verdict.expect(goes_on && !viewer.is_over(), || "the player was not kept".to_owned());
    trial.verdict.outcome("replaced");
    trial.verdict.figure("its player was kept");
}

pub(super) fn c02(trial: &mut Trial<'_>) {
    let mut first = trial.publisher("held");
    first.send(&wire::video(0, wire::AVC_CONFIG).chunks());
    first.send(&wire::video(0, wire::AVC_KEYFRAME).chunks());
    first.send(&wire::video(40, wire::AVC_FRAME).chunks());
    let silent_since = Instant::now();
    let mut returned = false;
    while !returned && silent_since.elapsed() < SOON {
        let mut next = trial.session(&[wire::create_stream(2.0), wire::publish("held")]);
        returned = next.hears("NetStream.Publish.Start", Duration::from_millis(100));
    }
    let locked_out = silent_since.elapsed();
    trial.verdict.expect(returned, || format!("locked out for {locked_out:?}"));
    trial.verdict.figure(format!("locked out for {:.1} s", locked_out.as_secs_f64()));
    trial.closes("the one that hangs", first, "replaced");
}

/// Application, key, and the stream they stand for; empty if the name is refused.
const SPELLINGS: [(&str, &str, &str); 59] = [
    ("live", "v", "live/v"),
    ("live/", "v", "live/v"),
    ("/live", "v", "live/v"),
    ("/live/", "/v", "live/v"),
    ("live//", "v", "live/v"),
    ("live", "v/", "live/v"),
    ("live", "//v", "live/v"),
    ("live", " v", "live/v"),
    ("live", "v ", "live/v"),
    ("live ", "v", "live/v"),
    (" live", "v", "live/v"),
    ("live/_definst_", "v", "live/v"),
    ("live", "v?x=1", "live/v"),
    ("live", "v?", "live/v"),
    ("live?x=1", "v", "live/v"),
    ("live?vhost=other", "v", "live/v"),
    ("live", "v?vhost=other", "live/v"),
    ("live", "v?name=w&app=x", "live/v"),
    ("live", "v#w", "live/v#w"),
    ("live", "LIVE", "live/LIVE"),
    ("LIVE", "v", "LIVE/v"),
    ("live", "V", "live/V"),
    ("live/a", "b", "live/a/b"),
    ("live", "a/b", "live/a/b"),
    ("live", "a//b", "live/a/b"),
    ("live", "%76", "live/v"),
    ("live", "%2576", "live/v"),
    ("live", "%2e%2e/v", ""),
    ("live", "%2Fv", "live/v"),
    ("live", "v%0Aw", ""),
    ("live", "v%00w", ""),
    ("live", "v%ff", ""),
    ("live", "v%3Fx=1", "live/v"),
    ("live%3Fx=1", "v", "live/v"),
    ("live", "v%", "live/v%"),
    ("live", "v;x", "live/v;x"),
    ("live", "a b", "live/a b"),
    ("live", "caf\u{e9}", "live/caf\u{e9}"),
    ("live", "cafe\u{301}", "live/cafe\\u{301}"),
    ("live/a/b", "", "live/a/b"),
    ("live", "mp4:v", "live/v"),
    ("live/mp4:a", "b", "live/a/b"),
    ("live", "v.flv", "live/v"),
    ("live", "_definst_/v", "live/v"),
    ("live", "rtmp://host/live/v", "live/v"),
    ("live", "rtmp://host/other/v", ""),
    ("live", "v&user=u&pass=p", ""),
    ("live/v?", "user=u&pass=p", "live/v"),
    ("live", "$(id)", "live/$(id)"),
    ("live", "..", ""),
    ("live", "../v", ""),
    ("live/..", "v", ""),
    ("live", "a/../../v", ""),
    ("live", ".", ""),
    ("live", "v\0", "live/v"),
    ("live", "v\0w", ""),
    ("live", "v\tw", ""),
    ("live", "", ""),
    ("", "v", ""),
];

pub(super) fn c03(trial: &mut Trial<'_>) {
    for (app, key, meant) in SPELLINGS {
        let mut attacker = trial.send(wire::handshake());
        attacker.send(&wire::connect(app).chunks());
        attacker.send(&wire::create_stream(2.0).chunks());
        attacker.send(&wire::publish(key).chunks());
        let what = format!("{app:?} {key:?}");
        if meant.is_empty() {
            trial.closes(&what, attacker, "bad_name");
            continue;
        }
        let granted = attacker.hears("NetStream.Publish.Start", SOON);
        let line = format!("{} publishes {meant}\n", attacker.address);
        let is_meant =
            !trial.arena.server.is_ours() || wait_until(SOON, || trial.log().contains(&line));
        trial.verdict.expect(granted && is_meant, || format!("{what} is not {meant}"));
        trial.verdict.outcome("served");
        // The next spelling may stand for the same stream.
        let address = attacker.address;
        drop(attacker);
        let gone = || trial.log().contains(&format!("closed {address}"));
        wait_until(SOON, || !trial.arena.server.is_ours() || gone());
    }
}

pub(super) fn c04(trial: &mut Trial<'_>) {
    let ask = |name: &str| command(name, 3.0, &[null(), string("held")]);
    let asks = trial.session(&[ask("releaseStream"), ask("FCPublish"), ask("FCUnpublish")]);
    trial.serves("asks and does not publish", asks);
    let publishes = trial.log().contains("publishes live/held");
    trial.verdict.expect(!publishes, || "requests without publish created a stream".to_owned());
    for request in [wire::play(CANARY), wire::publish("held"), wire::create_stream(2.0)] {
        let mut early = trial.send(wire::handshake());
        early.send(&request.chunks());
        trial.closes("before connect", early, "bad_command");
    }
    let mut anonymous = trial.send(wire::handshake());
    anonymous.send(&wire::connect("studio").chunks());
    anonymous.send(&wire::create_stream(2.0).chunks());
    anonymous.send(&wire::publish("any").chunks());
    trial.closes("without the login", anonymous, "login_failed");
    let wrong = "studio?authmod=adobe&user=camera&challenge=x&response=y&opaque=z";
    let mut wrong_proof = trial.send(wire::handshake());
    wrong_proof.send(&wire::connect(wrong).chunks());
    trial.closes("with a wrong one", wrong_proof, "login_failed");
}

pub(super) fn c11(trial: &mut Trial<'_>) {
    let nasty =
        ["a\nb", "a\r\n2026-01-01 INFO x", "\x1b[2Ja", "a\" level=\"error", "\u{202e}a", "\x07"];
    for text in nasty {
        let odd = wire::object(&[
            ("app", string("live")),
            ("flashVer", string(text)),
            ("pageUrl", string(text)),
            ("swfUrl", string(text)),
            ("tcUrl", string(format!("rtmp://host/{text}"))),
        ]);
        let mut attacker = trial.send(wire::handshake());
        attacker.send(&command("connect", 1.0, &[odd]).chunks());
        attacker.send(&command(text, 2.0, &[null(), number(1.0)]).chunks());
        attacker.send(&wire::create_stream(2.0).chunks());
        attacker.send(&wire::publish(text).chunks());
        trial.ends_or_serves(text, attacker, &["bad_name", "bad_command", "already_publishing"]);
        let mut app = trial.send(wire::handshake());
        app.send(&wire::connect(text).chunks());
        trial.ends_or_serves(text, app, &["bad_name", "bad_command"]);
    }
    let log = trial.log();
    let is_clean = |line: &str| {
        line.starts_with("20") && !line.chars().any(|c| c.is_control() || c == '\u{202e}')
    };
    let odd: Vec<_> = log.lines().filter(|line| !is_clean(line)).take(3).collect();
    trial.verdict.expect(odd.is_empty(), || format!("the log has {odd:?}"));
}
