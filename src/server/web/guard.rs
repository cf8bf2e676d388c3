//! The guard of the site: which requests reach a place.
//!
//! Owns the token and the rules about hosts and origins. It fails closed: what it does not
//! understand is refused.

use super::place::Place;
use super::{Answer, Surface};
use crate::config::HostName;
use crate::http::requests::{Host, HttpRequest, Method};
use crate::http::response::HttpStatus;
use std::fmt;
use subtle::ConstantTimeEq;

/// The secret that a request has to carry as its bearer token (RFC 6750, section 2.1).
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken(Box<[u8]>);

impl ApiToken {
    /// The fewest bytes of a token. Fewer can be guessed.
    pub const BYTES_MIN: usize = 16;

    /// Takes a token as a file has it: one line of printable characters. Returns `None` if it is
    /// shorter than [`ApiToken::BYTES_MIN`] or could not stand in a header.
    pub fn new(text: &str) -> Option<Self> {
        let token = text.trim_end_matches(['\r', '\n']);
        let fits = token.len() >= Self::BYTES_MIN && token.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(token.as_bytes().into()))
    }

    /// Compares in a time that does not depend on where the two differ.
    fn is(&self, given: &[u8]) -> bool {
        self.0.ct_eq(given).into()
    }
}

/// The token itself never reaches a log.
impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken")
    }
}

/// What the guard knows.
#[derive(Debug)]
pub(super) struct Guard<'g> {
    pub(super) surface: Surface,
    pub(super) hosts: &'g [HostName],
    pub(super) token: Option<&'g ApiToken>,
}

impl Guard<'_> {
    /// Returns the refusal, if the request must not reach the place.
    pub(super) fn check(&self, request: &HttpRequest, place: &Place) -> Result<(), Answer> {
        let is_playback = place.is_public();
        // Anyone may read a stream on a public address, by whatever name. Anything else could be
        // read by a site that has rebound its own name.
        if (self.surface.is_local || !is_playback)
            && !is_own_host(request.host().as_ref(), self.hosts)
        {
            let detail = "the Host header names no host of this server: add it to http.hosts";
            return Err(Answer::problem(HttpStatus::MisdirectedRequest, "unknown_host", detail));
        }
        if !is_reading(request.method()) && is_cross_site(request) {
            let detail = "a page of another origin has caused this request";
            return Err(Answer::problem(HttpStatus::Forbidden, "cross_origin", detail));
        }
        match place {
            Place::Health | Place::Ready => Ok(()),
            Place::Asset(_) if self.surface.status => Ok(()),
            Place::Page | Place::Asset(_) | Place::Events | Place::Metrics => {
                self.check_status(request, false)
            }
            Place::Api(call) => self.check_status(request, call.is_control()),
            Place::Stream { .. } | Place::Playlist { .. } | Place::Segment { .. } => {
                if self.surface.playback { Ok(()) } else { Err(not_shown()) }
            }
        }
    }
}

/// Returns whether the host can only be meant for this server: an address, the name of the machine
/// for itself, or a name in `http.hosts`. HTTP/1.0 clients may send none.
fn is_own_host(host: Option<&Host<'_>>, hosts: &[HostName]) -> bool {
    match host {
        None | Some(Host { address: Some(_), .. }) => true,
        Some(Host { name, .. }) => is_own_name(name, hosts),
    }
}

fn is_own_name(name: &str, hosts: &[HostName]) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || hosts.iter().any(|own| own.is(&name))
}

/// Returns whether a page of the origin that has sent the request may read a stream. On a public
/// address every page may. On a loopback address only pages of this machine or of `http.hosts`
/// may, since a page from anywhere runs in a browser of this machine.
pub(super) fn may_be_read_by(request: &HttpRequest, surface: Surface, hosts: &[HostName]) -> bool {
    let Some(origin) = request.header("origin").filter(|_| surface.is_local) else {
        return !surface.is_local;
    };
    let host = origin_host(origin).and_then(|host| std::str::from_utf8(host).ok());
    let Some(host) = host.and_then(Host::parse) else { return false };
    match host.address {
        Some(address) => address.is_loopback(),
        None => is_own_name(&host.name, hosts),
    }
}

/// Returns host and port of an origin (RFC 6454, section 6.1).
fn origin_host(origin: &[u8]) -> Option<&[u8]> {
    let at = origin.windows(3).position(|three| three == b"://")?;
    Some(&origin[at + 3..])
}

impl Guard<'_> {
    /// Returns the refusal, unless the request may see the state of the server or, with
    /// `is_control`, change it.
    fn check_status(&self, request: &HttpRequest, is_control: bool) -> Result<(), Answer> {
        if !self.surface.status {
            return Err(not_shown());
        }
        if self.surface.is_local && !is_control {
            return Ok(());
        }
        let Some(token) = self.token else {
            let detail = "set api.token_file: without a token nothing can be changed, and nothing \
                          is shown on an address that is not loopback";
            return Err(Answer::problem(HttpStatus::Forbidden, "no_token_configured", detail));
        };
        match request.bearer_token() {
            Some(given) if token.is(given) => Ok(()),
            _ => {
                let detail = "expected Authorization: Bearer with the token of api.token_file";
                Err(Answer::problem(HttpStatus::Unauthorized, "token_required", detail))
            }
        }
    }
}

fn not_shown() -> Answer {
    let detail = "this address does not show that part of the server";
    Answer::problem(HttpStatus::NotFound, "not_shown", detail)
}

fn is_reading(method: Method) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Options)
}

/// Returns whether a page of another origin has caused the request, as browsers say it. A client
/// that sends neither header is no browser.
fn is_cross_site(request: &HttpRequest) -> bool {
    match (request.header("sec-fetch-site"), request.header("origin")) {
        (Some(site), _) => !matches!(site, b"same-origin" | b"none"),
        (None, Some(origin)) => {
            let host = request.header("host").unwrap_or_default();
            origin_host(origin) != Some(host)
        }
        (None, None) => false,
    }
}
