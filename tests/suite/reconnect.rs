//! Reconnect requests of Enhanced RTMP v2: who is asked, upon what, and what becomes of them.

use std::net::SocketAddr;

use tiderace::config::{Duplicate, ReconnectUrl, Settings};
use tiderace::server::reason::CloseReason;

use crate::wire::{
    self, COMMAND, Message, audio, command, create_stream, number, object, play, publish, string,
};
use crate::world::{ClientHandle, World};

const REQUEST: &str = "NetConnection.Connect.ReconnectRequest";

/// A connection to `live` whose client says that it understands `caps_ex`.
fn understanding(world: &mut World, caps_ex: f64) -> ClientHandle {
    let client = world.connect();
    connect(world, client, caps_ex);
    client
}

fn connect(world: &mut World, client: ClientHandle, caps_ex: f64) {
    world[client].send_raw(&wire::handshake());
    let properties = [
        ("app", string("live")),
        ("tcUrl", string("rtmp://host/live")),
        ("capsEx", number(caps_ex)),
    ];
    world.say(client, &[command("connect", 1.0, &[object(&properties)])]);
    world[client].take_messages();
}

/// One that publishes or plays on message stream 1, by `request`.
fn with_stream(world: &mut World, request: Message) -> ClientHandle {
    let client = understanding(world, 1.0);
    world.say(client, &[create_stream(2.0), request]);
    world[client].take_messages();
    client
}

fn drain(world: &mut World) {
    let now = world.now();
    world.server.drain(now);
    world.run();
}

/// The payload of the request: name, transaction, null and an object.
fn request(description: &str, tc_url: Option<&str>) -> Vec<u8> {
    let mut information = vec![
        ("level", string("status")),
        ("code", string(REQUEST)),
        ("description", string(description)),
    ];
    information.extend(tc_url.map(|url| ("tcUrl", string(url))));
    [string("onStatus"), number(0.0), vec![5], object(&information)].concat()
}

#[test]
fn ex_13_who_announced_it_is_asked_and_served_until_it_leaves() {
    let mut world = World::new(Settings::default());
    let publisher = with_stream(&mut world, publish("cam"));
    let player = with_stream(&mut world, play("cam"));
    let obs = world.publishing("obs");
    let other_player = world.playing("cam");
    drain(&mut world);

    for client in [publisher, player] {
        let commands = world[client].of_kind(COMMAND);
        assert_eq!(commands.len(), 1);
        assert_eq!(commands[0].message_stream_id, 0);
        assert_eq!(commands[0].payload, request("the server is going down", None));
        assert!(!world[client].is_finished());
    }
    for (client, told) in
        [(obs, "NetStream.Publish.Denied"), (other_player, "NetStream.Play.UnpublishNotify")]
    {
        assert!(world[client].was_told(told) && !world[client].was_told(REQUEST));
        assert!(world[client].is_finished());
    }
    world.advance_ms(5_000);
    world.say(publisher, &[audio(0, 10), audio(20, 10)]);
    assert_eq!(world[player].media().len(), 2, "served on");
    let late = world.connect();
    assert!(world[late].is_closed(), "nobody new gets in");
    for client in [player, publisher] {
        world[client].finish();
    }
    world.run();
    assert!(world.server.is_empty() && world.server.hub().is_empty());
    assert_eq!(world.closed(CloseReason::ServerShutdown), 2);
    assert_eq!(world.closed(CloseReason::PeerClosed), 2);
}

#[test]
fn the_request_names_the_url_of_the_settings() {
    for url in ["rtmp://b.example/live", "//b.example/live", "/other"] {
        let drain_url = ReconnectUrl::new(url).unwrap();
        let mut world = World::new(Settings { drain_url, ..Settings::default() });
        let client = understanding(&mut world, 1.0);
        let now = world.now();
        world.server.request_reconnects(now);
        world.run();
        let expected = request("the server asks for it", Some(url));
        assert_eq!(world[client].messages()[0].payload, expected);
    }
}

#[test]
fn only_the_bit_for_it_announces_it() {
    for (caps_ex, asked) in [(1.0, true), (15.0, true), (0.0, false), (14.0, false), (1.5, false)] {
        let mut world = World::new(Settings::default());
        let client = understanding(&mut world, caps_ex);
        drain(&mut world);
        assert_eq!(world[client].was_told(REQUEST), asked, "{caps_ex}");
        assert_eq!(world[client].is_finished(), !asked, "{caps_ex}");
    }
}

#[test]
fn by_command_nothing_changes_for_anybody_else() {
    let mut world = World::new(Settings::default());
    let publisher = with_stream(&mut world, publish("cam"));
    let player = world.playing("cam");
    let shaking = world.connect();
    world[player].take_messages();
    let now = world.now();
    world.server.request_reconnects(now);
    world.run();
    assert_eq!(world[publisher].answers(), [REQUEST]);
    assert!(world[player].messages().is_empty() && world[shaking].messages().is_empty());
    world.say(publisher, &[audio(0, 10)]);
    assert_eq!(world[player].media().len(), 1);
    let newcomer = world.playing("cam");
    for client in [publisher, player, newcomer] {
        world.assert_lives(client);
    }
}

#[test]
fn a_publisher_that_was_asked_may_take_over_from_itself() {
    for (asked, host, takes_over) in [(true, 1, true), (true, 9, false), (false, 1, false)] {
        let mut settings = Settings::default();
        settings.publish.duplicate = Duplicate::Reject;
        let mut world = World::new(settings);
        let first = with_stream(&mut world, publish("cam"));
        let player = world.playing("cam");
        world[player].take_messages();
        if asked {
            let now = world.now();
            world.server.request_reconnects(now);
        }
        world.say(first, &[audio(0, 10), audio(20, 10)]);
        let second = world.connect_from(SocketAddr::from(([10, 0, 0, host], 40_001)));
        connect(&mut world, second, 1.0);
        world.say(second, &[create_stream(2.0), publish("cam")]);
        assert_eq!(world[second].was_told("NetStream.Publish.Start"), takes_over);
        assert_eq!(world[second].was_told("NetStream.Publish.BadName"), !takes_over);
        world.say(if takes_over { second } else { first }, &[audio(40, 10)]);
        assert_eq!(world[player].media().len(), 3);
        assert!(!world[player].was_told("NetStream.Play.UnpublishNotify"));
    }
}

#[test]
fn what_is_left_at_the_end_of_a_drain_is_told_and_closed() {
    let mut world = World::new(Settings::default());
    let publisher = with_stream(&mut world, publish("cam"));
    let player = with_stream(&mut world, play("cam"));
    let idle = understanding(&mut world, 1.0);
    let leaving = world.connected();
    drain(&mut world);
    let now = world.now();
    world.server.stop(now);
    world.run();
    for (client, told) in [
        (publisher, "NetStream.Publish.Denied"),
        (player, "NetStream.Play.UnpublishNotify"),
        (idle, "NetConnection.Connect.AppShutdown"),
        (leaving, "NetConnection.Connect.AppShutdown"),
    ] {
        assert!(world[client].was_told(told) && world[client].is_closed(), "{told}");
    }
    assert!(world.server.is_empty() && world.server.hub().is_empty());
    assert_eq!(world.closed(CloseReason::ServerShutdown), 4);
}

#[test]
fn who_was_asked_by_command_is_asked_again_when_the_server_goes_down() {
    let mut world = World::new(Settings::default());
    let client = with_stream(&mut world, play("cam"));
    let now = world.now();
    world.server.request_reconnects(now);
    drain(&mut world);
    drain(&mut world);
    assert_eq!(world[client].answers(), [REQUEST, REQUEST]);
    world.assert_lives(client);
}
