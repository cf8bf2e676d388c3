//! The whole server with a clock and in-memory sockets. Peers connect, send anything, stall, leave
//! and disconnect, while time passes and settings change. [`World`] checks after every turn that
//! nothing is lost, stuck or left over. This module checks the deadlines and the end.

use arbitrary::{Arbitrary, Result, Unstructured};
use tiderace::config::{Absent, Duplicate, Settings, Start};

use super::script;
use crate::wire::{self, HANDSHAKE_BYTES};
use crate::world::{ClientHandle, Split, World};

/// Maximum number of peers in a script.
const CLIENTS_MAX: usize = 8;
/// Maximum number of steps in a script. Longer scripts only take time.
const STEPS_MAX: usize = 200;

pub(crate) fn run(data: &[u8]) {
    let mut source = Unstructured::new(data);
    let mut play = Play { world: World::new(settings(&mut source)), clients: Vec::new() };
    for _ in 0..STEPS_MAX {
        if source.is_empty() || play.step(&mut source).is_err() {
            break;
        }
    }
    play.end();
}

/// The next event.
#[derive(Debug, Arbitrary)]
enum Step {
    Connect { shakes_hands: bool, segment: u8 },
    Say { client: u8 },
    SayOften { client: u8, times: u8 },
    Read { client: u8, bytes: u16 },
    Stall { client: u8, reads: bool },
    Advance { millis: u16 },
    AdvanceLong,
    Finish { client: u8 },
    Reset { client: u8 },
    Reload,
}

struct Client {
    handle: ClientHandle,
    accepted_ms: u64,
    /// Bytes that the client has sent or is about to send.
    sent_bytes: usize,
    chunk_size: usize,
}

struct Play {
    world: World,
    clients: Vec<Client>,
}

impl Play {
    fn step(&mut self, source: &mut Unstructured<'_>) -> Result<()> {
        match source.arbitrary()? {
            Step::Connect { shakes_hands, segment } => self.connect(shakes_hands, segment),
            Step::Say { client } => self.say(client, 1, source)?,
            Step::SayOften { client, times } => self.say(client, times, source)?,
            Step::Read { client, bytes } => {
                if let Some(client) = self.client(client) {
                    self.world[client].read(bytes.into());
                }
            }
            Step::Stall { client, reads } => {
                if let Some(client) = self.client(client) {
                    self.world[client].reads = reads;
                }
            }
            Step::Advance { millis } => self.world.advance_ms(millis.into()),
            Step::AdvanceLong => self.world.advance_ms(61_000),
            Step::Finish { client } => {
                if let Some(client) = self.client(client) {
                    self.world[client].finish();
                }
            }
            Step::Reset { client } => {
                if let Some(client) = self.client(client) {
                    self.world[client].reset();
                }
            }
            Step::Reload => self.world.server.reload(settings(source)),
        }
        self.world.run();
        self.check_handshake_deadline();
        Ok(())
    }

    fn client(&self, index: u8) -> Option<ClientHandle> {
        let index = usize::from(index).checked_rem(self.clients.len())?;
        Some(self.clients[index].handle)
    }

    fn connect(&mut self, shakes_hands: bool, segment: u8) {
        if self.clients.len() == CLIENTS_MAX {
            return;
        }
        let handle = self.world.connect();
        if segment > 0 {
            self.world[handle].split = Split::Bytes(usize::from(segment) * 8);
        }
        let accepted_ms = self.world.now().as_micros() / 1000;
        let mut client = Client { handle, accepted_ms, sent_bytes: 0, chunk_size: 128 };
        if shakes_hands {
            client.send(&mut self.world, &wire::handshake());
        }
        self.clients.push(client);
    }

    fn say(&mut self, client: u8, times: u8, source: &mut Unstructured<'_>) -> Result<()> {
        let Some(index) = usize::from(client).checked_rem(self.clients.len()) else {
            return Ok(());
        };
        let client = &mut self.clients[index];
        for _ in 0..times {
            if source.is_empty() {
                break;
            }
            let bytes = script::say(source, &mut client.chunk_size)?;
            client.send(&mut self.world, &bytes);
        }
        Ok(())
    }

    /// The handshake deadline is absolute: a client without a complete handshake is gone by then.
    fn check_handshake_deadline(&self) {
        let now_ms = self.world.now().as_micros() / 1000;
        for client in self.clients.iter().filter(|client| client.sent_bytes < HANDSHAKE_BYTES) {
            let age_ms = now_ms - client.accepted_ms;
            let is_there = self.world.conn(client.handle).is_some();
            assert!(!is_there || age_ms <= HANDSHAKE_MS_MAX, "a handshake of {age_ms} ms");
        }
    }

    /// All clients leave, and nothing may be left over.
    fn end(mut self) {
        for (index, client) in self.clients.iter().enumerate() {
            let peer = &mut self.world[client.handle];
            if index % 2 == 0 {
                peer.reset();
            } else {
                peer.reads = true;
                peer.finish();
            }
        }
        self.world.advance_ms(3_600_000);
        let server = &self.world.server;
        assert!(server.is_empty(), "{} connections are left over", server.len());
        assert!(server.hub().is_empty(), "a stream is left over");
        assert_eq!(server.timers().len(), 0, "a deadline is left over");
        assert_eq!(server.next_deadline(), None);
    }
}

impl Client {
    fn send(&mut self, world: &mut World, bytes: &[u8]) {
        self.sent_bytes += bytes.len();
        world[self.handle].send_raw(bytes);
    }
}

/// The longest of the handshake timeouts below.
const HANDSHAKE_MS_MAX: u64 = 10_000;

/// Settings chosen by a script: bounds are small enough to be reached, and policies vary.
fn settings(source: &mut Unstructured<'_>) -> Settings {
    let mut settings = Settings::default();
    let bits: u8 = source.arbitrary().unwrap_or_default();
    let is_set = |bit: u8| bits & 1 << bit != 0;
    if is_set(0) {
        settings.limits.tape_bytes_max = 64 * 1024;
        settings.play.lag_bytes = 32 * 1024;
        settings.play.lag_ms = 200;
    }
    if is_set(1) {
        settings.limits.connections_max = 3;
        settings.limits.streams_max = 1;
    }
    if is_set(2) {
        settings.timeouts.handshake_ms = HANDSHAKE_MS_MAX / 10;
        settings.timeouts.idle_ms = 5000;
        settings.timeouts.ping_ms = 1000;
    }
    if is_set(3) {
        settings.publish.duplicate = Duplicate::Replace;
        settings.publish.linger_ms = 0;
    }
    if is_set(4) {
        settings.play.absent = Absent::Refuse;
        settings.play.start = Start::Live;
    }
    if is_set(5) {
        settings.play.wait_ms = 2000;
        settings.timeouts.publisher_silent_ms = 3000;
    }
    settings
}
