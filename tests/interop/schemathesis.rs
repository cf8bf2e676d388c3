//! The API as a stranger reads its description: schemathesis makes requests of every kind that it
//! allows and forbids, and compares the answers with it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::clip::{Film, clip};
use crate::lab::server::{Server, Setup};
use crate::lab::{Lab, Need, ffmpeg};
use crate::support::program::Program;

/// Where `tests/run` puts it, with all that it needs.
const PACKAGES: &str = "schemathesis";
/// Hundreds of requests, on a machine with other work.
const END: Duration = Duration::from_secs(300);

#[test]
fn the_api_answers_as_its_description_promises() {
    let needs = [
        Need::Program("ffmpeg"),
        Need::Program("python3"),
        Need::Program("schemathesis/bin/schemathesis"),
        Need::OwnServer,
    ];
    let Some(lab) = Lab::open("schemathesis", &needs) else { return };
    let wrapper = ["env", "TIDERACE_API_TOKEN=0123456789abcdef"];
    let server = Server::start_as(&lab, &Setup { wrapper: &wrapper, ..Setup::default() });
    let clip = clip(Film::Main, 9);
    let publisher = ffmpeg::publish(&lab, "publisher", &clip, &server.url("live/schemathesis"));
    server.wait_for_stream("live", "schemathesis");
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/programs").join(PACKAGES);
    let mut command = Command::new("python3");
    command.args(["-m", "schemathesis.cli", "run"]).arg(server.http_url("api/v1/openapi.json"));
    command.args(["--header", "Authorization: Bearer 0123456789abcdef"]);
    command.args(["--phases", "coverage,fuzzing", "--max-examples", "10", "--seed", "1"]);
    command.arg("--no-color").env("PYTHONPATH", packages).current_dir(lab.path(""));
    Program::start(lab.path(""), "schemathesis", &mut command).finish(END);
    drop(publisher);
}
