//! The handshake of both sides. A server sends nothing before C1 is complete and then 3073 bytes,
//! and takes exactly the bytes of the handshake.

use tiderace::limits::HANDSHAKE_PACKET_BYTES;
use tiderace::rtmp::handshake::{
    C2Check, ClientHandshake, Completed, HandshakeError, Hello, ServerHandshake,
};

use super::oracle::{Kept, note, same_however_cut};

/// Length of C0 and C1, and with C2 after them. The other direction has the same lengths.
const HELLO_BYTES: usize = 1 + HANDSHAKE_PACKET_BYTES;
const ALL_BYTES: usize = HELLO_BYTES + HANDSHAKE_PACKET_BYTES;
const RANDOM: [u8; 1528] = [7; 1528];

/// The first byte chooses the side and the check, the second one the split of the others.
pub(crate) fn run(data: &[u8]) {
    let Some((&[side, cut], bytes)) = data.split_first_chunk() else { return };
    let check = [C2Check::Off, C2Check::Log, C2Check::Strict][usize::from(side % 3)];
    if side < 0x80 {
        same_however_cut(bytes, cut.into(), |pieces| server(pieces, check));
    } else {
        same_however_cut(bytes, cut.into(), client);
    }
}

#[derive(Debug, PartialEq)]
struct Outcome {
    output: Vec<u8>,
    taken: usize,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    Open,
    Done(Option<Completed>),
    Refused(Option<HandshakeError>),
}

fn server(pieces: &[&[u8]], check: C2Check) -> Outcome {
    let hello = Hello::new(&RANDOM);
    let (mut handshake, mut kept) = (ServerHandshake::new(), Kept::default());
    let outcome = feed(pieces, |input, output| {
        kept.receive(input.len(), || {
            handshake.advance(input, &hello, check, output).map(|done| done.map(Some))
        })
    });
    let answered = outcome.taken >= HELLO_BYTES;
    assert_eq!(outcome.output.len(), if answered { ALL_BYTES } else { 0 });
    outcome
}

fn client(pieces: &[&[u8]]) -> Outcome {
    let (mut handshake, mut kept) = (ClientHandshake::new(&RANDOM), Kept::default());
    let outcome = feed(pieces, |input, output| {
        kept.receive(input.len(), || {
            handshake.advance(input, output).map(|is_done| is_done.then_some(None))
        })
    });
    let answered = outcome.taken >= HELLO_BYTES;
    assert_eq!(outcome.output.len(), if answered { HANDSHAKE_PACKET_BYTES } else { 0 });
    outcome
}

/// Feeds pieces until the handshake is complete or refused. An incomplete handshake has taken all.
fn feed(
    pieces: &[&[u8]],
    mut advance: impl FnMut(
        &mut &[u8],
        &mut Vec<u8>,
    ) -> Result<Option<Option<Completed>>, HandshakeError>,
) -> Outcome {
    let (mut output, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        let mut input = *piece;
        let result = advance(&mut input, &mut output);
        taken += piece.len() - input.len();
        match result {
            Ok(Some(completed)) => {
                assert_eq!(taken, ALL_BYTES, "bytes of a whole handshake");
                return note(|| Outcome { output, taken, end: End::Done(completed) });
            }
            Ok(None) => assert!(input.is_empty(), "an incomplete handshake takes all input"),
            Err(error) => return Outcome { output, taken, end: End::Refused(known(error)) },
        }
    }
    Outcome { output, taken, end: End::Open }
}

/// Drops errors that depend on how many bytes came with the first one, because another protocol is
/// recognized by the bytes that follow it.
fn known(error: HandshakeError) -> Option<HandshakeError> {
    use HandshakeError::{Http, ProxyProtocol, Version};
    (!matches!(error, Http(_) | ProxyProtocol | Version(_))).then_some(error)
}
