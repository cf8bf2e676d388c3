//! Requests that a judge outside of the server decides later: the connection is parked, nothing of
//! it is read, and whatever happens meanwhile, nobody is let in who was not granted it.

use tiderace::config::Settings;
use tiderace::limits;
use tiderace::server::judge::{Decision, JudgedCommand, OutsideJudge, Question, Refused};
use tiderace::server::reason::CloseReason;
use tiderace::server::web::Surface;

use crate::frames::publish;
use crate::wire::{self, Message};
use crate::world::{ClientHandle, World};

/// Room in a socket in each direction.
const SOCKET_BYTES: usize = 8 * 1024;

/// A world whose judge decides these commands.
fn judged(commands: &[JudgedCommand]) -> World {
    let mut world = World::new(Settings::default());
    world.socket_bytes = SOCKET_BYTES;
    world.server.set_judge(Some(OutsideJudge::new(commands)));
    world
}

fn granted(question: &Question) -> Decision {
    Ok(question.name.clone())
}

fn refused() -> Decision {
    Err(Refused {
        reason: CloseReason::KeyRefused,
        detail: "for the log".to_owned(),
        description: "for the peer".to_owned(),
    })
}

/// The one question that is open.
fn question(world: &mut World) -> Question {
    let question = world.server.next_question().expect("a question");
    assert!(world.server.next_question().is_none(), "one question at a time");
    question
}

fn decide(world: &mut World, question: &Question, decision: Decision) {
    let now = world.now();
    world.server.decided(question.ticket, decision, now);
    world.run();
}

fn is_parked(world: &World, client: ClientHandle) -> bool {
    world.conn(client).is_some_and(|conn| conn.is_parked())
}

/// A publish with frames behind it, in one piece.
fn publish_and_frames(frames: u32) -> Vec<Message> {
    let frames = (0..frames).map(|number| wire::audio(number * 20, 100));
    [wire::create_stream(2.0), wire::publish("cam")].into_iter().chain(frames).collect()
}

fn asks(world: &mut World, command: JudgedCommand) -> ClientHandle {
    match command {
        JudgedCommand::Connect => {
            let client = world.handshaken();
            world.say(client, &[wire::connect("live")]);
            client
        }
        JudgedCommand::Publish => {
            let client = world.connected();
            world.say(client, &publish_and_frames(3));
            client
        }
        JudgedCommand::Play => {
            let client = world.connected();
            world.say(client, &[wire::create_stream(2.0), wire::play("cam")]);
            client
        }
    }
}

const ALL: [(JudgedCommand, &str); 3] = [
    (JudgedCommand::Connect, "_result 1"),
    (JudgedCommand::Publish, "NetStream.Publish.Start"),
    (JudgedCommand::Play, "NetStream.Play.Start"),
];

#[test]
fn a_request_is_answered_when_it_is_decided_and_not_before() {
    for (command, answer) in ALL {
        let mut world = judged(&[command]);
        let client = asks(&mut world, command);
        world.advance_ms(limits::VERDICT_MS - 1);
        assert!(is_parked(&world, client), "{command:?}");
        assert!(!world[client].was_told(answer), "{command:?}");
        let question = question(&mut world);
        assert_eq!(question.command, command);
        let name = if command == JudgedCommand::Connect { "live" } else { "live/cam" };
        assert_eq!(&*question.name, name);
        decide(&mut world, &question, granted(&question));
        assert!(world[client].was_told(answer), "{command:?}: {:?}", world[client].answers());
        assert!(!is_parked(&world, client));
        // No deadline of the wait is left.
        world.advance_ms(2 * limits::VERDICT_MS);
        assert_eq!(world.closed(CloseReason::VerdictTimeout), 0);
    }
}

#[test]
fn a_wait_that_is_over_wakes_nobody() {
    for is_granted in [true, false] {
        let mut settings = Settings::default();
        settings.timeouts.ping_ms = 0;
        let mut world = World::new(settings);
        world.server.set_judge(Some(OutsideJudge::new(&[JudgedCommand::Connect])));
        let client = asks(&mut world, JudgedCommand::Connect);
        let question = question(&mut world);
        if is_granted {
            decide(&mut world, &question, granted(&question));
        } else {
            world[client].reset();
            world.run();
        }
        assert_eq!(world.server.next_deadline(), None, "granted: {is_granted}");
    }
}

#[test]
fn a_decision_of_a_judge_that_was_replaced_does_not_fit_a_newer_request() {
    let mut world = judged(&[JudgedCommand::Connect]);
    let client = asks(&mut world, JudgedCommand::Connect);
    let old = question(&mut world);
    decide(&mut world, &old, granted(&old));
    world.server.set_judge(Some(OutsideJudge::new(&[JudgedCommand::Publish])));
    world.say(client, &publish_and_frames(1));
    decide(&mut world, &old, granted(&old));
    assert!(is_parked(&world, client), "nobody has decided about the publish");
    assert!(world.server.hub().is_empty());
}

#[test]
fn a_refusal_reaches_the_peer_and_ends_its_connection() {
    for (command, answer) in ALL {
        let mut world = judged(&[command]);
        let client = asks(&mut world, command);
        let question = question(&mut world);
        decide(&mut world, &question, refused());
        assert!(!world[client].was_told(answer), "{command:?}");
        assert!(world[client].is_finished(), "{command:?}");
        world.advance_ms(2000);
        assert_eq!(world.closed(CloseReason::KeyRefused), 1, "{command:?}");
        assert!(world.server.hub().is_empty(), "{command:?}");
    }
}

#[test]
fn no_decision_in_time_is_a_refusal_and_one_that_comes_late_changes_nothing() {
    for (command, answer) in ALL {
        let mut world = judged(&[command]);
        let client = asks(&mut world, command);
        let question = question(&mut world);
        world.advance_ms(limits::VERDICT_MS);
        assert!(world[client].is_finished(), "{command:?}");
        decide(&mut world, &question, granted(&question));
        assert!(!world[client].was_told(answer), "{command:?}");
        world.advance_ms(2000);
        assert_eq!(world.closed(CloseReason::VerdictTimeout), 1, "{command:?}");
        assert!(world.server.hub().is_empty(), "{command:?}");
    }
}

#[test]
fn a_peer_that_leaves_while_it_waits_gets_nothing_and_takes_nothing_from_others() {
    for (command, _) in ALL {
        for resets in [false, true] {
            let mut world = judged(&[command]);
            let client = asks(&mut world, command);
            let question = question(&mut world);
            if resets {
                world[client].reset();
            } else {
                world[client].finish();
            }
            world.run();
            assert!(world.server.is_empty(), "{command:?}, reset {resets}");
            // Its place has another connection by now.
            let next = world.handshaken();
            decide(&mut world, &question, granted(&question));
            assert!(world.server.hub().is_empty());
            assert!(world[next].messages().is_empty(), "the answer was not for this peer");
        }
    }
}

#[test]
fn a_question_of_a_peer_that_has_left_is_not_asked() {
    let mut world = judged(&[JudgedCommand::Publish]);
    let (first, second) =
        (asks(&mut world, JudgedCommand::Publish), asks(&mut world, JudgedCommand::Publish));
    world[first].reset();
    world.run();
    let question = question(&mut world);
    decide(&mut world, &question, granted(&question));
    assert!(world[second].was_told("NetStream.Publish.Start"));
}

#[test]
fn what_follows_a_request_stays_in_the_kernel_and_is_bounded_and_accounted() {
    let mut world = judged(&[JudgedCommand::Publish]);
    let player = world.playing("cam");
    let publisher = world.connected();
    let before = world.server.conns_bytes();
    world.say(publisher, &publish_and_frames(1000));
    assert!(is_parked(&world, publisher));
    assert!(world[publisher].unsent() > 50_000, "{} bytes wait", world[publisher].unsent());
    let held = world.server.conns_bytes() - before;
    assert!(held < limits::READ_BUFFER_BYTES, "{held} bytes are held for it");
    world.advance_ms(1000);
    assert!(world[player].media().is_empty());
    let question = question(&mut world);
    decide(&mut world, &question, granted(&question));
    assert_eq!(world[publisher].unsent(), 0);
    assert_eq!(world[player].media().len(), 1000, "every frame, in whole");
}

#[test]
fn a_parked_publisher_is_neither_silent_nor_without_life() {
    let mut world = judged(&[JudgedCommand::Publish]);
    let publisher = world.connected();
    world.say(publisher, &[wire::create_stream(2.0), wire::publish("one")]);
    let first = question(&mut world);
    decide(&mut world, &first, granted(&first));
    // It asks for a second stream, and the judge takes its time.
    let mut judge = OutsideJudge::new(&[JudgedCommand::Publish]);
    judge.verdict_ms = 300_000;
    world.server.set_judge(Some(judge));
    let again = wire::command("publish", 0.0, &[wire::null(), wire::string("two")]).on(2);
    world.say(publisher, &[wire::create_stream(3.0), again]);
    assert!(is_parked(&world, publisher));
    let second = question(&mut world);
    // Another encoder with the same key does not find it silent.
    world.advance_ms(200_000);
    assert_eq!(world.server.stats().closed_total(), 0);
    let rival = world.connected();
    world.say(rival, &[wire::create_stream(2.0), wire::publish("one")]);
    let third = question(&mut world);
    decide(&mut world, &third, granted(&third));
    assert!(world[rival].was_told("NetStream.Publish.BadName"));
    decide(&mut world, &second, granted(&second));
    assert_eq!(world.server.hub().len(), 2);
}

#[test]
fn a_grant_is_held_against_the_rules_that_a_reload_has_brought() {
    for (text, is_let_in) in [
        ("[apps.live]\nkeys = [\"cam\"]\n", true),
        ("[apps.live]\nkeys = [\"other\"]\n", false),
        ("[apps.live.users]\nbob = \"pw\"\n", false),
    ] {
        let mut world = judged(&[JudgedCommand::Publish]);
        let publisher = asks(&mut world, JudgedCommand::Publish);
        let question = question(&mut world);
        let file = tiderace::config::FileText { name: "t.toml", text };
        world.server.reload(Settings::read(Some(file), &[]).unwrap());
        decide(&mut world, &question, granted(&question));
        let answer = "NetStream.Publish.Start";
        assert_eq!(world[publisher].was_told(answer), is_let_in, "after {text:?}");
    }
}

#[test]
fn a_drain_ends_what_waits_and_a_decision_lets_nobody_in_any_more() {
    for (command, answer) in ALL {
        let mut world = judged(&[command]);
        let client = asks(&mut world, command);
        let question = question(&mut world);
        let now = world.now();
        world.server.drain(now);
        world.run();
        decide(&mut world, &question, granted(&question));
        assert!(!world[client].was_told(answer), "{command:?}");
        world.advance_ms(2000);
        assert!(world.server.is_empty(), "{command:?}");
        assert_eq!(world.closed(CloseReason::ServerShutdown), 1, "{command:?}");
    }
}

#[test]
fn the_name_that_is_granted_is_the_one_that_is_published_and_played() {
    let mut world = judged(&[JudgedCommand::Publish, JudgedCommand::Play]);
    let publisher = asks(&mut world, JudgedCommand::Publish);
    let asked = question(&mut world);
    decide(&mut world, &asked, Ok("live/mapped".into()));
    assert!(world.server.hub().find("live/mapped").is_some_and(|channel| channel.is_live()));
    let player = asks(&mut world, JudgedCommand::Play);
    let asked = question(&mut world);
    decide(&mut world, &asked, Ok("live/mapped".into()));
    assert_eq!(world.server.hub().find("live/mapped").map(|c| c.players().len()), Some(1));
    world.say(publisher, &[wire::audio(100, 50)]);
    assert_eq!(world[player].media().len(), 1);
}

#[test]
fn what_the_judge_does_not_decide_and_what_the_rules_refuse_is_not_asked() {
    let mut world = judged(&[JudgedCommand::Play]);
    world.publishing("cam");
    assert!(world.server.next_question().is_none(), "it decides plays alone");
    let text = "[apps.live]\nkeys = [\"key\"]\n";
    let file = tiderace::config::FileText { name: "t.toml", text };
    let mut world = World::new(Settings::read(Some(file), &[]).unwrap());
    world.server.set_judge(Some(OutsideJudge::new(&[JudgedCommand::Publish])));
    let client = asks(&mut world, JudgedCommand::Publish);
    assert!(world.server.next_question().is_none(), "the rules have refused it");
    assert!(world[client].is_finished());
}

#[test]
fn a_player_that_waits_for_a_second_stream_goes_on_with_the_first() {
    let mut world = judged(&[JudgedCommand::Play]);
    let publisher = world.publishing("cam");
    let player = asks(&mut world, JudgedCommand::Play);
    let asked = question(&mut world);
    decide(&mut world, &asked, granted(&asked));
    let again = wire::command("play", 0.0, &[wire::null(), wire::string("other")]).on(2);
    world.say(player, &[wire::create_stream(3.0), again]);
    assert!(is_parked(&world, player));
    world.say(publisher, &[wire::audio(0, 50), wire::audio(20, 50)]);
    assert_eq!(world[player].media().len(), 2);
}

const SITE: Surface = Surface { playback: true, status: true, is_local: true };
const REQUESTS: [&str; 2] = [
    "",
    "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
];

/// A world whose judge decides plays, with a stream, and a player over HTTP that has asked for it,
/// with another request behind that.
fn view(fields: &str) -> (World, ClientHandle) {
    let mut world = judged(&[JudgedCommand::Play]);
    let publisher = world.publisher("cam");
    publish(&mut world, publisher, "V0 A0 K1 a1 i2", 0);
    let player = world.connect_http(SITE);
    let request = format!("GET /live/cam.flv HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    world[player].send_raw(request.as_bytes());
    world.run();
    assert!(is_parked(&world, player));
    (world, player)
}

/// The status of the first response, if there is one.
fn status(world: &World, player: ClientHandle) -> Option<u16> {
    let received = std::str::from_utf8(world[player].received().get(..12)?).ok()?;
    received.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

#[test]
fn a_player_over_http_gets_nothing_before_the_decision_and_the_stream_after_it() {
    for (fields, granted_with) in REQUESTS.into_iter().zip([200, 101]) {
        let (mut world, player) = view(fields);
        world.advance_ms(limits::VERDICT_MS - 1);
        assert_eq!(status(&world, player), None);
        let asked = question(&mut world);
        assert_eq!((asked.command, &*asked.name), (JudgedCommand::Play, "live/cam"));
        decide(&mut world, &asked, granted(&asked));
        assert_eq!(status(&world, player), Some(granted_with));
        assert!(world[player].received().windows(3).any(|three| three == b"FLV"));
        world.advance_ms(2 * limits::VERDICT_MS);
        assert_eq!(world.server.stats().closed_total(), 0, "no deadline of the wait is left");
    }
}

#[test]
fn a_player_over_http_is_told_the_refusal_as_a_status() {
    for fields in REQUESTS {
        let (mut world, player) = view(fields);
        let asked = question(&mut world);
        decide(&mut world, &asked, refused());
        assert_eq!(status(&world, player), Some(403));
        let text = String::from_utf8(world[player].received().to_vec()).unwrap();
        assert!(text.contains("for the peer") && !text.contains("for the log"), "{text}");
        assert!(world[player].is_finished());
        world.advance_ms(1000);
        assert_eq!(world.closed(CloseReason::KeyRefused), 1);
        // Without a decision the server is at fault.
        let (mut world, player) = view(fields);
        let asked = question(&mut world);
        world.advance_ms(limits::VERDICT_MS);
        assert_eq!(status(&world, player), Some(503));
        decide(&mut world, &asked, granted(&asked));
        assert!(world[player].is_finished());
        world.advance_ms(1000);
        assert_eq!(world.closed(CloseReason::VerdictTimeout), 1);
        assert_eq!(world.server.stats().plays, 0);
    }
}

#[test]
fn a_player_over_http_that_leaves_while_it_waits_is_not_let_in() {
    for (fields, resets) in
        REQUESTS.into_iter().flat_map(|fields| [(fields, false), (fields, true)])
    {
        let (mut world, player) = view(fields);
        let asked = question(&mut world);
        if resets {
            world[player].reset();
        } else {
            world[player].finish();
        }
        world.run();
        assert!(world.conn(player).is_none());
        let next = world.connect_http(SITE);
        decide(&mut world, &asked, granted(&asked));
        assert!(world[next].received().is_empty(), "the answer was not for this client");
        assert_eq!(world.server.stats().plays, 0);
    }
}

#[test]
fn a_drain_ends_a_player_over_http_that_waits() {
    for fields in REQUESTS {
        let (mut world, player) = view(fields);
        let asked = question(&mut world);
        let now = world.now();
        world.server.drain(now);
        world.run();
        assert_eq!(status(&world, player), Some(503));
        decide(&mut world, &asked, granted(&asked));
        world.advance_ms(2000);
        assert!(world.conn(player).is_none());
        assert_eq!(world.closed(CloseReason::ServerShutdown), 2, "and the publisher");
        assert_eq!(world.server.stats().plays, 0);
    }
}
