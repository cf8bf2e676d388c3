//! The only write path to a connection: half-sent message, control, response body, media, in as few
//! calls as possible.
//!
//! Owns the buffer in which short messages are joined before a write. Each visited message is
//! charged to a [`Budget`], so that neither a long backlog of tiny messages nor a transport that
//! takes little makes one write long. It does not decide which connections are written to, and does
//! not change streams.

use super::conn::{Activity, Conn};
use super::hub::Hub;
use super::transport::Transport;
use crate::budget::Budget;
use crate::limits;
use crate::stream::cursor::Play;
use crate::stream::latency::Handed;
use crate::stream::segment::FileRun;
use crate::stream::slices::Slices;
use std::io::{self, ErrorKind};

/// Outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// The kernel has everything that was pending.
    All,
    /// The transport takes no more; an event will follow.
    Blocked,
    /// The budget is used up; there may be more.
    Budget,
}

/// Outcome of one call.
struct Written {
    bytes: usize,
    /// Nothing else is pending.
    is_all: bool,
}

/// Calls and bytes of all writes since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WriteTotals {
    /// Calls, including those that moved no byte.
    pub(super) calls: u64,
    /// The part of them that sent from a memory file.
    pub(super) file_calls: u64,
    /// Bytes written from memory.
    pub(super) copied_bytes: u64,
    /// Bytes sent from memory files.
    pub(super) file_bytes: u64,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Memory for copies. It has its whole capacity from the start, since it would reach twice its
    /// bound if it doubled.
    scratch: Vec<u8>,
    /// The error of a `write_file` whose bytes the same transport took from memory: the system
    /// refuses to send from files.
    file_refusal: Option<io::Error>,
    /// The messages that were handed to the kernel, for the latencies of their streams.
    pub(super) handed: Handed,
    pub(super) sent: WriteTotals,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            scratch: Vec::with_capacity(limits::WRITE_SCRATCH_BYTES),
            file_refusal: None,
            handed: Handed::default(),
            sent: WriteTotals::default(),
        }
    }
}

impl Outbox {
    /// Writes what is pending until all is with the kernel, the transport takes no more, or the
    /// budget is spent. Errors are the transport's.
    pub(super) fn flush<T: Transport>(
        &mut self,
        conn: &mut Conn<T>,
        hub: &Hub,
        budget: &mut Budget,
    ) -> io::Result<Flushed> {
        while !budget.is_spent() {
            if conn.transport.has_unsent()
                && let Some(unfinished) = flush_transport(conn)?
            {
                return Ok(unfinished);
            }
            // Looked up once per write: each lookup branches on the kind of peer. Further lookups
            // cost 1.5 % of the instructions of a write to a player.
            let has_control = conn.peer.has_pending();
            let written = self.write_once(conn, hub, budget, has_control);
            let Written { bytes, is_all } = match written {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    conn.writable = false;
                    return Ok(Flushed::Blocked);
                }
                Err(error) => return Err(error),
            };
            if bytes > 0 {
                conn.bytes_out += bytes as u64;
                budget.spend_bytes(bytes);
                let sent = Sent { bytes, is_all, has_control };
                advance(conn, hub, sent, &mut self.handed);
            }
            if is_all {
                return Ok(flushed_all(conn));
            }
        }
        Ok(if conn.is_behind(hub) { Flushed::Budget } else { flushed_all(conn) })
    }

    /// Returns the error with which the system refused to send from files, if it has.
    pub(super) const fn take_file_refusal(&mut self) -> Option<io::Error> {
        self.file_refusal.take()
    }

    /// Writes with one call as much as fits into the call and the budget.
    fn write_once<T: Transport>(
        &mut self,
        conn: &mut Conn<T>,
        hub: &Hub,
        budget: &mut Budget,
        has_control: bool,
    ) -> io::Result<Written> {
        let is_past_unwanted = skip_unwanted(conn, hub, &mut budget.messages);
        let may_use_files = conn.transport.sends_files() && self.file_refusal.is_none();
        let may_begin_with_file = may_use_files && !has_control;
        let file_run = if may_begin_with_file { file_run(conn, hub, budget) } else { None };
        let Some((run, is_last)) = file_run else {
            let written = self.write_from_memory(conn, hub, budget, has_control, may_use_files)?;
            return Ok(Written { is_all: written.is_all && is_past_unwanted, ..written });
        };
        budget.spend_call();
        self.sent.calls += 1;
        self.sent.file_calls += 1;
        let len = run.len.min(budget.bytes);
        let error = match conn.transport.write_file(run.file, run.position, len) {
            Ok(0) => ErrorKind::WriteZero.into(),
            Ok(bytes) => {
                self.sent.file_bytes += bytes as u64;
                return Ok(Written { bytes, is_all: is_last && bytes == run.len });
            }
            Err(error) if is_transient(&error) => return Err(error),
            Err(error) => error,
        };
        // A list of the errors that mean a refusal would not do: a socket can report most of them
        // for its own connection, and one broken connection must not cost the others their files.
        match self.write_from_memory(conn, hub, budget, has_control, false) {
            Err(again) if !is_transient(&again) => Err(error),
            Ok(written) if written.bytes > 0 => {
                self.file_refusal = Some(error);
                Ok(written)
            }
            other => other,
        }
    }

    /// Writes likewise, but from memory alone. With `until_file`, the write ends where a memory
    /// file continues.
    fn write_from_memory<T: Transport>(
        &mut self,
        conn: &mut Conn<T>,
        hub: &Hub,
        budget: &mut Budget,
        has_control: bool,
        until_file: bool,
    ) -> io::Result<Written> {
        let mut slices = Slices::new(budget.bytes, &mut self.scratch, until_file);
        let (is_closing, activity) = (conn.is_closing(), conn.activity.as_deref());
        let control = has_control.then(|| conn.peer.pending());
        let visits = &mut budget.messages;
        let is_all = gather(control, activity, is_closing, hub, &mut slices, visits);
        if slices.is_empty() {
            return Ok(Written { bytes: 0, is_all });
        }
        budget.spend_call();
        self.sent.calls += 1;
        let offered = slices.bytes();
        let bytes = slices.hand_to(|slices| conn.transport.write_vectored(slices))?;
        self.sent.copied_bytes += bytes as u64;
        if bytes == 0 {
            // A transport that takes no byte without an error would be asked forever.
            return Err(ErrorKind::WriteZero.into());
        }
        Ok(Written { bytes, is_all: is_all && bytes == offered })
    }
}

/// Passes on the bytes that the transport holds. Returns [`Flushed::Blocked`] if some are left.
fn flush_transport<T: Transport>(conn: &mut Conn<T>) -> io::Result<Option<Flushed>> {
    loop {
        match conn.transport.flush() {
            Ok(()) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                conn.writable = false;
                return Ok(Some(Flushed::Blocked));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Returns the outcome of a write after which nothing is pending. If the transport still holds
/// bytes, they leave after its next event, so the connection is blocked until then.
fn flushed_all<T: Transport>(conn: &mut Conn<T>) -> Flushed {
    if conn.transport.has_unsent() {
        conn.writable = false;
        return Flushed::Blocked;
    }
    Flushed::All
}

/// Returns whether the same call may succeed later.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Moves players past messages that they do not want, up to `visits` messages. Returns whether
/// all of them were passed.
fn skip_unwanted<T>(conn: &mut Conn<T>, hub: &Hub, visits: &mut usize) -> bool {
    if conn.closing.is_some() {
        return true;
    }
    let Some(activity) = conn.activity.as_deref_mut() else { return true };
    let mut plays = activity.plays.iter_mut();
    plays.all(|play| play.skip_unwanted(hub.channel(play.stream).tape(), visits))
}

/// Returns the media to be written next if it lies in a memory file and nothing goes before it,
/// and whether nothing follows it.
fn file_run<'h, T: Transport>(
    conn: &Conn<T>,
    hub: &'h Hub,
    budget: &mut Budget,
) -> Option<(FileRun<'h>, bool)> {
    let activity = conn.activity.as_deref().filter(|a| a.half_sent_bytes() == 0)?;
    if conn.is_closing() {
        return None;
    }
    let is_only = activity.plays.len() == 1;
    let mut tapes = activity.plays.iter().map(|play| (play, hub.channel(play.stream).tape()));
    let (play, tape) = tapes.find(|(play, tape)| is_only || play.has_pending(tape))?;
    let (run, is_last) = play.file_run(tape, budget.bytes, &mut budget.messages)?;
    Some((run, is_last && is_only))
}

/// Collects pending bytes into slices. A connection that is being closed gets no more media.
/// Returns whether no more is pending.
fn gather<'s>(
    control: Option<impl Iterator<Item = &'s [u8]>>,
    activity: Option<&'s Activity>,
    is_closing: bool,
    hub: &'s Hub,
    slices: &mut Slices<'s, '_>,
    visits: &mut usize,
) -> bool {
    let half_sent = activity.and_then(|activity| activity.half_sent.as_deref());
    if let Some(half_sent) = half_sent.filter(|half_sent| !half_sent.is_empty()) {
        half_sent.add(slices);
    }
    for bytes in control.into_iter().flatten() {
        if !bytes.is_empty() && !slices.push(bytes) {
            return false;
        }
    }
    let Some(activity) = activity.filter(|_| !is_closing) else { return slices.has_room() };
    let mut plays = activity.plays.iter();
    // If the budget cut the slices, more is pending, even if the last player added none.
    plays.all(|play| play.gather(hub.channel(play.stream).tape(), slices, visits))
        && slices.has_room()
}

/// What a call has sent of what was pending.
#[derive(Clone, Copy)]
struct Sent {
    bytes: usize,
    /// Nothing else was pending.
    is_all: bool,
    /// Control bytes were pending.
    has_control: bool,
}

/// Takes what was sent from what is pending.
fn advance<T>(conn: &mut Conn<T>, hub: &Hub, sent: Sent, handed: &mut Handed) {
    let Sent { bytes: mut written, is_all, has_control } = sent;
    let is_closing = conn.closing.is_some();
    let Some(activity) = conn.activity.as_deref_mut() else {
        conn.peer.written(written);
        return;
    };
    if let Some(half_sent) = activity.half_sent.as_deref_mut() {
        let arrived = half_sent.counts_from();
        written -= half_sent.advance(written);
        // The stream is known by the only play. To keep it beside the message would cost each
        // player memory, and hardly any connection has several plays.
        if let (Some(arrived), [play]) =
            (arrived.filter(|_| half_sent.is_empty()), &activity.plays[..])
        {
            handed.add(play.stream, arrived);
        }
    }
    if has_control {
        let of_control = written.min(conn.peer.pending_bytes());
        conn.peer.written(of_control);
        written -= of_control;
    }
    if is_closing {
        return;
    }
    if is_all {
        // Nearly every write. Where each message ends is looked at only if one of them may be cut.
        let pending = |play: &Play| play.pending_bytes(hub.channel(play.stream).tape());
        let pending = || activity.plays.iter().map(pending).sum::<usize>();
        debug_assert_eq!(written, pending(), "all that was pending was gathered");
        for play in &mut activity.plays {
            play.advance_to_end(hub.channel(play.stream).tape(), handed);
        }
        return;
    }
    let mut cut = None;
    for play in &mut activity.plays {
        written = play.advance(hub.channel(play.stream).tape(), written, &mut cut, handed);
    }
    debug_assert_eq!(written, 0, "no more is written than was gathered");
    if let Some(cut) = cut {
        **activity.half_sent.get_or_insert_default() = cut;
    }
}

#[cfg(test)]
mod tests;
