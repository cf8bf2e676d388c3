//! Urgent data: nobody who speaks RTMP sends it, and who does is served as if it were not there.

use rustix::process::Signal;

use crate::support::peer::Peer;
use crate::support::server::Start;
use crate::wire::{self, command, null};

#[test]
fn e11_what_is_sent_behind_urgent_data_is_read_at_once() {
    let server = Start::new("urgent", "").start();
    let mut peer = Peer::connected(server.address);
    let check = command("_checkbw", 2.0, &[null()]);
    // So that all of it lies in the socket when the server reads: a read ends at the urgent byte.
    server.signal(Signal::STOP);
    peer.send(&check);
    peer.send_urgent(b'!');
    peer.send(&check);
    server.signal(Signal::CONT);
    peer.wait_for("_result");
    peer.wait_for("_result");
    // Between commands, too, and within one.
    for (request, answer) in
        [(wire::create_stream(3.0), "_result"), (wire::publish("cam"), "NetStream.Publish.Start")]
    {
        peer.send_urgent(b'!');
        peer.send_bytes(&request.chunks()[..20]);
        peer.send_urgent(b'!');
        peer.send_bytes(&request.chunks()[20..]);
        peer.wait_for(answer);
    }
}
