//! Who may publish: logins in bytes, stream keys, and what a reload makes of them.
//!
//! Challenges and responses were computed with Python's hashlib, hmac and base64 from the formulas
//! in PROTOCOL section 5.3; no code of the server took part.

use tiderace::config::{FileText, Settings};
use tiderace::rtmp::command::{Command, CommandMessage};
use tiderace::server::reason::CloseReason;

use crate::wire::{self, Message};
use crate::world::{ClientHandle, Split, World};

const USERS: &str = "[apps.live.users]\nbob = \"s3cret\"\n";

/// What `bob` is asked in the first minute, and his answer. It holds what base64 has that is
/// special in a URL.
const CHALLENGED: &str = "[ AccessManager.Reject ] : [ authmod=adobe ] : \
    ?reason=needauth&user=bob&salt=bf68c33b&challenge=3a66b6142ba1896f&opaque=3a66b6142ba1896f";
const PROVED: &str = "authmod=adobe&user=bob&challenge=000000ad\
    &response=Dkrsf6az+8nB/abeg/HtqQ==&opaque=3a66b6142ba1896f";
/// The same with another password.
const NOT_PROVED: &str = "authmod=adobe&user=bob&challenge=000000ad\
    &response=WeI1GWOD0OWkkQOacKIQGg==&opaque=3a66b6142ba1896f";
const NEEDED: &str = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
const FAILED: &str = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=authfailed";

const LLNW_CHALLENGED: &str = "[ AccessManager.Reject ] : [ authmod=llnw ] : \
    ?reason=needauth&user=bob&nonce=bada62072ced8956";
const LLNW_PROVED: &str = "authmod=llnw&user=bob&nonce=bada62072ced8956&cnonce=deadbeef\
    &nc=00000001&response=de8dc4f1121f8238ac0d5778ce6b840f";

fn settings(text: &str) -> Settings {
    Settings::read(Some(FileText { name: "t.toml", text }), &[]).unwrap()
}

fn world(text: &str) -> World {
    World::new(settings(text))
}

/// `connect` as encoders send it.
fn encoder(app: &str) -> Message {
    let flash_ver = wire::string("FMLE/3.0 (compatible; FMSc/1.0)");
    let tc_url = wire::string(format!("rtmp://host/{app}"));
    let properties = [("app", wire::string(app)), ("flashVer", flash_ver), ("tcUrl", tc_url)];
    wire::command("connect", 1.0, &[wire::object(&properties)])
}

/// What a new connection is told that connects as an encoder.
fn told(world: &mut World, app: &str) -> (ClientHandle, String) {
    let client = world.handshaken();
    world.say(client, &[encoder(app)]);
    let last = world[client].of_kind(wire::COMMAND).pop().expect("an answer").payload.clone();
    let text = match CommandMessage::decode(&last).unwrap().command {
        Command::Error(status) => {
            assert_eq!(status.code, b"NetConnection.Connect.Rejected");
            String::from_utf8(status.description.to_vec()).unwrap()
        }
        _ => "accepted".to_owned(),
    };
    (client, text)
}

fn assert_told(world: &mut World, app: &str, expected: &str) {
    let (client, text) = told(world, app);
    assert_eq!(text, expected, "{app}");
    assert_eq!(world[client].is_finished(), expected != "accepted", "{app}");
}

/// Publishes `key` in `app`; whether that was granted.
fn publishes(world: &mut World, app: &str, key: &str) -> bool {
    let client = world.handshaken();
    world.say(client, &[wire::connect(app), wire::create_stream(2.0), wire::publish(key)]);
    let granted = world[client].was_told("NetStream.Publish.Start");
    let denied = world[client].was_told("NetStream.Publish.Denied");
    assert_ne!(granted, denied, "{app} {key}: {:?}", world[client].answers());
    assert_eq!(world[client].is_finished(), denied, "{app} {key}");
    world[client].finish();
    world.run();
    granted
}

fn names(world: &World) -> Vec<String> {
    let mut names: Vec<_> = world.server.hub().iter().map(|s| s.name().to_string()).collect();
    names.sort();
    names
}

#[test]
fn cm_33_three_connections_log_an_encoder_in() {
    let mut world = world(USERS);
    assert_told(&mut world, "live", NEEDED);
    assert_told(&mut world, "live?authmod=adobe&user=bob", CHALLENGED);
    let (client, text) = told(&mut world, &format!("live?{PROVED}"));
    assert_eq!(text, "accepted");
    world.say(client, &[wire::create_stream(2.0), wire::publish("show")]);
    assert!(world[client].was_told("NetStream.Publish.Start"));
    assert_eq!(names(&world), ["live/show"]);
    assert_eq!(world.closed(CloseReason::LoginBegun), 0, "they may read why for a second");
    world.advance_ms(1000);
    assert_eq!(world.closed(CloseReason::LoginBegun), 2);
}

#[test]
fn a_login_arrives_in_any_pieces() {
    let mut world = world(USERS);
    for split in [Split::Bytes(1), Split::Bytes(7)] {
        let client = world.connect();
        world[client].split = split;
        world[client].send_raw(&wire::handshake());
        world.say(client, &[encoder(&format!("live?{PROVED}"))]);
        assert_eq!(world[client].answers(), ["_result 1"]);
    }
}

#[test]
fn a_login_is_no_part_of_the_name() {
    for (app, key, name) in [
        ("live?", "show", "live/show"),
        ("live/?", "show", "live/show"),
        ("live/inst?", "show", "live/inst/show"),
        ("live/inst?tok=A&", "show", "live/inst/show"),
        ("live/inst?tok=A?", "show?x=1", "live/inst/show"),
    ] {
        let mut world = world(USERS);
        let (client, text) = told(&mut world, &format!("{app}{PROVED}"));
        assert_eq!(text, "accepted", "{app}");
        world.say(client, &[wire::create_stream(2.0), wire::publish(key)]);
        assert_eq!(names(&world), [name], "{app} {key}");
    }
}

#[test]
fn a_login_may_stand_in_the_url_alone() {
    let mut world = world(USERS);
    let client = world.handshaken();
    let url = wire::string(format!("rtmp://host/live?{PROVED}"));
    let properties = [("app", wire::string("live")), ("tcUrl", url)];
    let connect = wire::command("connect", 1.0, &[wire::object(&properties)]);
    world.say(client, &[connect, wire::create_stream(2.0), wire::publish("show")]);
    assert!(world[client].was_told("NetStream.Publish.Start"), "{:?}", world[client].answers());
}

#[test]
fn a_wrong_password_and_a_user_that_does_not_exist_are_told_the_same() {
    let mut world = world(USERS);
    let eve = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=eve\
        &salt=9f337b94&challenge=9e1000ac07bcaedb&opaque=9e1000ac07bcaedb";
    assert_told(&mut world, "live?authmod=adobe&user=eve", eve);
    assert_told(&mut world, &format!("live?{NOT_PROVED}"), FAILED);
    let eve = "live?authmod=adobe&user=eve&challenge=000000ad&response=";
    for response in ["Z+zZY3zg3b9MvnkFoxZNLg==", "fHYvKttC1CpjmW/eiSjZug==", ""] {
        assert_told(&mut world, &format!("{eve}{response}"), FAILED);
    }
    assert_told(&mut world, "live?authmod=adobe", NEEDED);
    assert_told(&mut world, "live?authmod=other&user=bob", NEEDED);
    let long = "u".repeat(65);
    assert_told(&mut world, &format!("live?authmod=adobe&user={long}"), FAILED);
    world.advance_ms(1000);
    assert_eq!(world.closed(CloseReason::LoginFailed), 5);
}

#[test]
fn a_challenge_is_good_for_its_minute_and_the_next() {
    for (at_ms, expected) in
        [(0, "accepted"), (59_999, "accepted"), (119_999, "accepted"), (120_000, FAILED)]
    {
        let mut world = world(USERS);
        world.advance_ms(at_ms);
        assert_told(&mut world, &format!("live?{PROVED}"), expected);
    }
    let mut world = world(USERS);
    world.advance_ms(60_000);
    let next =
        CHALLENGED.replace("bf68c33b", "d053ba7d").replace("3a66b6142ba1896f", "e9565ac1246a309a");
    assert_told(&mut world, "live?authmod=adobe&user=bob", &next);
}

#[test]
fn an_answer_is_good_for_its_application_alone() {
    let mut world = world(&format!("{USERS}[apps.tv.users]\nbob = \"s3cret\"\n"));
    assert_told(&mut world, &format!("tv?{PROVED}"), FAILED);
    // Logged in to one, it asks for a stream of the other.
    let (client, _) = told(&mut world, &format!("live?{PROVED}"));
    world.say(client, &[wire::create_stream(2.0), wire::publish("show")]);
    assert!(world[client].was_told("NetStream.Publish.Start"));
    assert!(!publishes(&mut world, "", "tv/show"));
}

#[test]
fn a_login_of_one_application_does_not_count_in_another() {
    let inner = "[apps.\"live/eu\".users]\nbob = \"s3cret\"\n";
    let mut world = world(&format!("{USERS}{inner}"));
    for (key, answer) in
        [("eu/show", "NetStream.Publish.Denied"), ("us/show", "NetStream.Publish.Start")]
    {
        let (client, text) = told(&mut world, &format!("live?{PROVED}"));
        assert_eq!(text, "accepted");
        world.say(client, &[wire::create_stream(2.0), wire::publish(key)]);
        assert!(world[client].was_told(answer), "{key}: {:?}", world[client].answers());
    }
}

#[test]
fn the_llnw_form_is_asked_for_by_setting_and_spoken_with_whom_it_begins() {
    let mut llnw = world(&format!("[apps.live]\nauthmod = \"llnw\"\n{USERS}"));
    assert_told(&mut llnw, "live", &NEEDED.replace("adobe", "llnw"));
    for mut world in [llnw, world(USERS)] {
        assert_told(&mut world, "live?authmod=llnw&user=bob", LLNW_CHALLENGED);
        assert_told(&mut world, &format!("live?{LLNW_PROVED}"), "accepted");
        assert_told(&mut world, &format!("live?x=1?{LLNW_PROVED}"), "accepted");
        let instance = LLNW_PROVED
            .replace("de8dc4f1121f8238ac0d5778ce6b840f", "87333ef21aa12d5f74efd8c92970daf5");
        assert_told(&mut world, &format!("live/inst?{instance}"), "accepted");
        let failed = FAILED.replace("adobe", "llnw");
        assert_told(&mut world, &format!("live?{instance}"), &failed);
        let wrong = LLNW_PROVED
            .replace("de8dc4f1121f8238ac0d5778ce6b840f", "13d0ff52de57910eae5b2949c2bcd6f4");
        assert_told(&mut world, &format!("live?{wrong}"), &failed);
        assert_told(&mut world, &format!("live?{PROVED}"), "accepted");
    }
}

#[test]
fn players_need_no_login_and_cannot_publish_without_one() {
    let mut world = world(USERS);
    let player = world.playing("show");
    assert!(!world[player].is_finished());
    for (app, key) in [("live", "show"), ("live/a", "b"), ("", "live/show"), ("live/show", "")] {
        assert!(!publishes(&mut world, app, key), "{app} {key}");
    }
    world.advance_ms(1000);
    assert_eq!(world.closed(CloseReason::LoginFailed), 4);
}

#[test]
fn what_is_added_to_an_application_without_users_does_no_harm() {
    let mut world = world("");
    for added in [PROVED, NOT_PROVED, "authmod=adobe", "authmod=x&user=y"] {
        assert_told(&mut world, &format!("live?{added}"), "accepted");
        assert!(publishes(&mut world, &format!("live/a?{added}"), "b"));
    }
}

#[test]
fn keys_that_are_listed_are_published_however_the_url_is_cut() {
    let mut world = world("[apps.live]\nkeys = [\"one\", \"a/b\"]\n");
    for (app, key, granted) in [
        ("live", "one", true),
        ("live", "one?token=x", true),
        ("live/", " /one", true),
        ("live/one", "", true),
        ("", "live/one", true),
        ("live", "a/b", true),
        ("live/a", "b", true),
        ("live", "two", false),
        ("live", "One", false),
        ("live", "one/", true),
        ("live", "one/x", false),
        ("live", "on", false),
        ("live/a", "c", false),
        ("live/a", "one", false),
        ("", "live/two", false),
        ("live", "%6Fne", true),
        ("live", "t%77o", false),
        ("live", "mp4:one.mp4", true),
        ("live/_definst_", "one", true),
        ("live", "rtmp://host/live/one", true),
        ("live", "rtmp://host/live/two", false),
        ("l%69ve", "two", false),
        ("other", "two", true),
        ("live2", "two", true),
        ("other/live", "two", true),
    ] {
        assert_eq!(publishes(&mut world, app, key), granted, "{app} {key}");
    }
    assert!(world.closed(CloseReason::KeyRefused) > 0);
}

#[test]
fn a_key_with_a_name_is_what_the_publisher_knows_and_the_name_what_players_do() {
    let mut world = world("[apps.live.keys]\nshow = \"k1\"\nb = \"show\"\n");
    assert!(!publishes(&mut world, "live", "b"), "a name is no key");
    let by_name = world.playing("show");
    let by_key = world.playing("k1");
    let publisher = world.publishing("k1");
    assert_eq!(names(&world), ["live/show"]);
    world.say(publisher, &[wire::audio(0, 10)]);
    for player in [by_name, by_key] {
        assert_eq!(world[player].media().len(), 1);
    }
    // A name counts before a key that is written like it.
    world.publishing("show");
    assert_eq!(names(&world), ["live/b", "live/show"]);
}

#[test]
fn the_longest_section_that_fits_holds() {
    let mut world = world(
        "[apps.live]\nkeys = [\"one\"]\n[apps.\"live/eu\"]\nkeys = [\"two\"]\n[apps.\"live/us\"]\n\
         keys = \"any\"\n",
    );
    for (app, key, granted) in [
        ("live", "one", true),
        ("live/eu", "two", true),
        ("live", "eu/two", true),
        ("live/eu", "one", false),
        ("live", "two", false),
        ("live", "us/any", true),
        ("live", "eu", false),
    ] {
        assert_eq!(publishes(&mut world, app, key), granted, "{app} {key}");
    }
}

#[test]
fn with_users_and_keys_both_are_needed() {
    let mut world = world(&format!("[apps.live]\nkeys = [\"one\"]\n{USERS}"));
    assert!(!publishes(&mut world, "live", "one"));
    for (key, answer) in [("two", "NetStream.Publish.Denied"), ("one", "NetStream.Publish.Start")] {
        let (client, text) = told(&mut world, &format!("live?{PROVED}"));
        assert_eq!(text, "accepted");
        world.say(client, &[wire::create_stream(2.0), wire::publish(key)]);
        assert!(world[client].was_told(answer), "{key}");
    }
}

#[test]
fn a_reload_holds_for_the_next_publish_and_leaves_who_publishes() {
    let mut world = world("");
    let publisher = world.publishing("one");
    world.server.reload(settings("[apps.live]\nkeys = [\"two\"]\n"));
    world.assert_lives(publisher);
    assert!(!publishes(&mut world, "live", "one"));
    assert!(publishes(&mut world, "live", "two"));

    world.server.reload(settings(USERS));
    let (logged_in, text) = told(&mut world, &format!("live?{PROVED}"));
    assert_eq!(text, "accepted");
    world.server.reload(settings("[apps.live.users]\nann = \"other\"\n"));
    assert_told(&mut world, &format!("live?{PROVED}"), FAILED);
    world.say(logged_in, &[wire::create_stream(2.0), wire::publish("mine")]);
    assert!(world[logged_in].was_told("NetStream.Publish.Denied"), "the user is gone");

    world.server.reload(settings(""));
    assert!(publishes(&mut world, "live", "any"));
}
