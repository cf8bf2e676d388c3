//! The configuration file. It is either refused with errors that each name a line of the file, or
//! results in settings with which a server runs.

use tiderace::config::{ConfigError, ConfigErrors, FileText, Settings};

use crate::wire;
use crate::world::World;

const NAME: &str = "tiderace.toml";

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read(text) {
        Ok(settings) => {
            assert_eq!(read(text).as_ref(), Ok(&settings), "read twice");
            assert_eq!(settings.changed_live(&settings), []);
            assert_eq!(settings.changed_at_restart_only(&settings), [""; 0]);
            serve(settings);
        }
        Err(errors) => errors.iter().for_each(|error| refused(error, text)),
    }
}

fn read(text: &str) -> Result<Settings, ConfigErrors> {
    Settings::read(Some(FileText { name: NAME, text }), &[])
}

fn refused(error: &ConfigError, text: &str) {
    let shown = error.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?} on one line");
    let rest = shown.strip_prefix(NAME).and_then(|rest| rest.strip_prefix(':'));
    let line = rest.and_then(|rest| rest.split_once(": ")).and_then(|(line, what)| {
        assert!(!what.is_empty(), "{shown:?} says what is wrong");
        line.parse::<usize>().ok()
    });
    let lines = text.matches('\n').count() + 1;
    assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{shown:?} of {lines} lines");
}

/// Runs a server with the settings: a publisher and a player connect, and time passes. Accepted
/// settings must not cause a panic.
fn serve(settings: Settings) {
    let mut world = World::new(settings);
    let clients = [world.connect(), world.connect()];
    for client in clients {
        world[client].send_raw(&wire::handshake());
        world[client].send(&[wire::connect("live"), wire::create_stream(2.0)]);
    }
    world.say(clients[0], &[wire::publish("cam"), wire::video(0, wire::AVC_CONFIG)]);
    world.say(clients[1], &[wire::play("cam")]);
    for time in [0, 40, 80] {
        world.say(clients[0], &[wire::video(time, wire::AVC_KEYFRAME), wire::audio(time, 9)]);
    }
    // Deadlines may be a millisecond apart.
    world.advance_ms(5000);
}
