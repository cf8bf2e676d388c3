//! The judges: who may connect, publish and play.
//!
//! Judges are asked in order. The access rules of the configuration answer at once. A judge outside
//! of the server, if there is one, decides the requests that the rules allow, and may take its
//! time. It is handed a [`Question`], and returns its decision with the [`Ticket`] of the question.
//! A judge sees a request and the facts about the peer. It never touches a connection. The
//! connections that wait belong to `parking.rs`.
//!
//! **Fail closed.** An error in a rule, a file or a judge lets nobody in. No answer is a refusal. A
//! late grant is checked against the rules in force, which a reload may have changed.

pub mod access;

use crate::limits;
use crate::rtmp::session::{ConnectRequest, PlayRequest, PublishRequest};
use crate::server::peer_address::PeerAddress;
use crate::server::reason::CloseReason;
use crate::server::web::{PlaylistRequest, ViewRequest};
use crate::stream::ids::ConnId;
use access::{Access, LoggedIn};
use std::collections::VecDeque;
use std::rc::Rc;

/// A refusal.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reason for log and counters.
    pub reason: CloseReason,
    /// The details for the log.
    pub detail: String,
    /// The description in the reply to the peer.
    pub description: String,
}

impl Refused {
    /// Creates a refusal with the same words for log and peer.
    pub(in crate::server) fn told(reason: CloseReason, text: impl Into<String>) -> Self {
        let description = text.into();
        Self { reason, detail: description.clone(), description }
    }
}

/// The outcome of asking the judges.
#[derive(Debug)]
pub enum Verdict {
    /// The request is granted.
    Granted {
        /// The canonical name of the granted stream, which may differ from the requested one.
        name: Rc<str>,
    },
    /// The request is refused.
    Refused(Refused),
    /// The decision will come later, with this ticket.
    Later(Ticket),
}

/// A decision: the granted name, or a refusal.
pub type Decision = Result<Rc<str>, Refused>;

/// Names one pending decision. No two decisions of a server have the same ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    pub(in crate::server) conn: ConnId,
    number: u64,
}

/// The commands that are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JudgedCommand {
    /// `connect` (RTMP 1.0, section 7.2.1.1).
    Connect,
    /// `publish` (RTMP 1.0, section 7.2.2.6).
    Publish,
    /// `play` or `play2` (RTMP 1.0, sections 7.2.2.1 and 7.2.2.2).
    Play,
}

/// A question for a judge outside of the server.
#[derive(Clone, Debug)]
pub struct Question {
    /// The ticket that the decision must carry.
    pub ticket: Ticket,
    /// The address of the peer.
    pub peer: PeerAddress,
    /// The command.
    pub command: JudgedCommand,
    /// The canonical name of the stream, as the access rules grant it; the path of the application
    /// for a connect.
    pub name: Rc<str>,
}

/// A request that has to be decided.
#[derive(Debug)]
pub(in crate::server) enum Ask {
    Connect(ConnectRequest),
    Publish(PublishRequest),
    Play(PlayRequest),
    View(Box<ViewRequest>),
    Playlist(Box<PlaylistRequest>),
}

impl Ask {
    /// Returns the memory that it holds in addition to itself (bytes).
    pub(in crate::server) fn held_bytes(&self) -> usize {
        match self {
            Self::Connect(request) => request.held_bytes(),
            Self::Publish(request) => request.target.held_bytes(),
            Self::Play(request) => request.target.held_bytes(),
            Self::View(request) => request.held_bytes(),
            Self::Playlist(request) => request.held_bytes(),
        }
    }
}

/// A judge outside of the server, with the questions that the loop has not taken yet.
#[derive(Debug)]
pub struct OutsideJudge {
    /// The commands that it decides.
    pub commands: Vec<JudgedCommand>,
    /// Time limit of a decision (ms). Without a decision in time, the request is refused.
    pub verdict_ms: u64,
    questions: VecDeque<Question>,
}

impl OutsideJudge {
    /// Creates a judge of these commands.
    pub fn new(commands: &[JudgedCommand]) -> Self {
        Self {
            commands: commands.to_vec(),
            verdict_ms: limits::VERDICT_MS,
            questions: VecDeque::new(),
        }
    }

    /// Takes the next question.
    pub(in crate::server) fn next_question(&mut self) -> Option<Question> {
        self.questions.pop_front()
    }
}

/// The judge outside, if there is one, and the number of tickets of all such judges. A count for
/// each judge was rejected: a late decision of a replaced judge would then fit a newer request.
#[derive(Debug, Default)]
pub(in crate::server) struct Outside {
    pub(in crate::server) judge: Option<OutsideJudge>,
    tickets: u64,
}

/// All judges, in the order in which they are asked.
pub(in crate::server) struct Judges<'j> {
    pub(in crate::server) access: &'j Access,
    pub(in crate::server) outside: &'j mut Outside,
}

impl Judges<'_> {
    /// Judges a publish of the stream called `name`.
    pub(in crate::server) fn publish(
        self,
        conn: ConnId,
        peer: PeerAddress,
        name: &str,
        logged_in: Option<&LoggedIn>,
    ) -> Verdict {
        match self.access.publish(name, logged_in) {
            Ok(name) => self.outside(conn, peer, JudgedCommand::Publish, name.into()),
            Err(refused) => Verdict::Refused(refused),
        }
    }

    /// Judges a play of the stream called `name`.
    pub(in crate::server) fn play(self, conn: ConnId, peer: PeerAddress, name: &str) -> Verdict {
        let name = self.access.play(name).into();
        self.outside(conn, peer, JudgedCommand::Play, name)
    }

    /// Judges a connect to the application at `path`, which the access rules allow.
    pub(in crate::server) fn connect(self, conn: ConnId, peer: PeerAddress, path: &str) -> Verdict {
        self.outside(conn, peer, JudgedCommand::Connect, path.into())
    }

    /// Asks the judge outside, if it decides this command.
    fn outside(
        self,
        conn: ConnId,
        peer: PeerAddress,
        command: JudgedCommand,
        name: Rc<str>,
    ) -> Verdict {
        let Outside { judge: Some(judge), tickets } = self.outside else {
            return Verdict::Granted { name };
        };
        if !judge.commands.contains(&command) {
            return Verdict::Granted { name };
        }
        *tickets += 1;
        let ticket = Ticket { conn, number: *tickets };
        judge.questions.push_back(Question { ticket, peer, command, name });
        Verdict::Later(ticket)
    }
}
