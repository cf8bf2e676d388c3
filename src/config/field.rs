//! Types of settings: how each is read, validated and printed.
//!
//! This module does not know keys, files or flags.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::listen_place::SOCKET_PREFIX;
use crate::limits::LISTENERS_MAX;

/// A value as written in the file or after a flag.
pub(super) enum Written<'a> {
    /// A string in the file.
    Text(&'a str),
    /// An integer in the file, its digits without prefix and underscores.
    Integer { digits: &'a str, radix: u32 },
    /// An array in the file.
    List(Vec<Self>),
    /// The values of a flag, one for each time that it was given.
    Words(&'a [String]),
    /// A value of any other type.
    Other,
}

impl<'a> Written<'a> {
    /// Returns the text of a single value. The last value of a repeated flag counts.
    fn as_text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Words(words) => words.last().map(String::as_str),
            Self::Integer { .. } | Self::List(_) | Self::Other => None,
        }
    }

    fn as_integer(&self) -> Option<u64> {
        match self {
            Self::Integer { digits, radix } => u64::from_str_radix(digits, *radix).ok(),
            Self::Words(words) => words.last()?.parse().ok(),
            Self::Text(_) | Self::List(_) | Self::Other => None,
        }
    }
}

/// A mistake in a value, or in an item of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Index of the invalid item in a list; `None` for the whole value.
    pub(super) item: Option<usize>,
    /// Description of valid values. It follows the word "expected".
    pub(super) expected: String,
}

impl Wrong {
    fn whole(expected: String) -> Vec<Self> {
        vec![Self { item: None, expected }]
    }
}

/// A type of setting.
pub(super) trait Field: Sized {
    /// Restriction of the values of the type.
    type Rule;

    /// Reads the value, or returns every mistake in it.
    fn read(written: &Written<'_>, rule: &Self::Rule) -> Result<Self, Vec<Wrong>>;

    /// Returns the description of valid values. It follows the word "expected".
    fn expected(rule: &Self::Rule) -> String;

    /// Returns the value in the syntax of the file.
    fn show(&self) -> String;
}

/// Sets `field` to the written value, or returns every mistake in it.
pub(super) fn assign<T: Field>(
    field: &mut T,
    written: &Written<'_>,
    rule: &T::Rule,
) -> Result<(), Vec<Wrong>> {
    *field = T::read(written, rule)?;
    Ok(())
}

/// See [`Field::show`].
pub(super) fn show<T: Field>(field: &T) -> String {
    field.show()
}

/// See [`Field::expected`]. The field is only passed for its type.
pub(super) fn expected_by<T: Field>(_: &T, rule: &T::Rule) -> String {
    T::expected(rule)
}

/// The integers that a key accepts, including both ends.
pub(super) struct Range {
    min: u64,
    max: u64,
    /// True if 0 is accepted in addition, with a special meaning.
    or_zero: bool,
}

impl Range {
    fn accepts(&self, value: u64) -> bool {
        (self.min..=self.max).contains(&value) || (self.or_zero && value == 0)
    }
}

/// Returns the range from `min` to `max`.
pub(super) const fn from_to(min: u64, max: u64) -> Range {
    Range { min, max, or_zero: false }
}

/// Returns the range from `min` to `max`, and 0.
pub(super) const fn either_zero_or(min: u64, max: u64) -> Range {
    Range { min, max, or_zero: true }
}

macro_rules! integer_fields {
    ($($type:ty),+) => {$(
        impl Field for $type {
            type Rule = Range;

            fn read(written: &Written<'_>, rule: &Range) -> Result<Self, Vec<Wrong>> {
                let value = written.as_integer().filter(|value| rule.accepts(*value));
                let value = value.and_then(|value| Self::try_from(value).ok());
                value.ok_or_else(|| Wrong::whole(Self::expected(rule)))
            }

            fn expected(rule: &Range) -> String {
                let zero = if rule.or_zero { "0 or " } else { "" };
                format!("{zero}an integer from {} to {}", rule.min, rule.max)
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

integer_fields!(u32, u64, usize);

/// A type with a few named values.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// All names and their values.
    const CHOICES: &'static [(&'static str, Self)];
}

impl<T: Choice> Field for T {
    type Rule = ();

    fn read(written: &Written<'_>, (): &()) -> Result<Self, Vec<Wrong>> {
        let text = written.as_text();
        let choice = T::CHOICES.iter().find(|(name, _)| Some(*name) == text);
        choice.map(|(_, value)| *value).ok_or_else(|| Wrong::whole(Self::expected(&())))
    }

    fn expected((): &()) -> String {
        let names: Vec<_> = T::CHOICES.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    }

    fn show(&self) -> String {
        let name = T::CHOICES.iter().find(|(_, value)| value == self).map_or("", |(name, _)| name);
        format!("\"{name}\"")
    }
}

/// An address to listen on, with the interface of a link-local address (RFC 4007, section 11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// The address. Its scope id is 0 if `interface` is set.
    pub address: SocketAddr,
    /// The name of the interface, as in `[fe80::1%eth0]:1935`.
    pub interface: Option<String>,
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self { address, interface: None }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, interface } = self;
        match interface {
            Some(interface) => write!(f, "[{}%{interface}]:{}", address.ip(), address.port()),
            None => address.fmt(f),
        }
    }
}

impl Field for Vec<ListenAddress> {
    type Rule = ();

    fn read(written: &Written<'_>, (): &()) -> Result<Self, Vec<Wrong>> {
        let has_no_port = |listen: &ListenAddress| listen.address.port() == 0;
        read_places(written, &Self::expected(&()), listen_address, has_no_port)
    }

    fn expected((): &()) -> String {
        "different addresses like \"[::]:1935\", \"10.0.0.1:1935\" or \":1935\"".into()
    }

    fn show(&self) -> String {
        let items: Vec<_> = self.iter().map(|address| format!("\"{address}\"")).collect();
        format!("[{}]", items.join(", "))
    }
}

/// Reads one place to listen on or a list. `read` reads one, or returns the description of a valid
/// one. Duplicates are refused, because the second bind would fail, unless they `may_repeat`.
pub(super) fn read_places<T: PartialEq>(
    written: &Written<'_>,
    expected: &str,
    read: impl Fn(&str) -> Result<T, String>,
    may_repeat: impl Fn(&T) -> bool,
) -> Result<Vec<T>, Vec<Wrong>> {
    let whole = || Wrong::whole(expected.to_owned());
    let texts: Vec<Option<&str>> = match written {
        Written::Text(text) => vec![Some(text)],
        Written::List(items) => items.iter().map(Written::as_text).collect(),
        Written::Words(words) => words.iter().map(|word| Some(word.as_str())).collect(),
        Written::Integer { .. } | Written::Other => return Err(whole()),
    };
    if texts.is_empty() {
        return Err(whole());
    }
    if texts.len() > LISTENERS_MAX {
        return Err(Wrong::whole(format!("at most {LISTENERS_MAX} addresses")));
    }
    let (mut places, mut wrong) = (Vec::with_capacity(texts.len()), Vec::new());
    for (index, text) in texts.into_iter().enumerate() {
        match text.ok_or_else(|| LISTEN_EXPECTED.to_owned()).and_then(&read) {
            Ok(place) if !may_repeat(&place) && places.contains(&place) => {
                let expected = "an address that is not in the list yet".to_owned();
                wrong.push(Wrong { item: Some(index), expected });
            }
            Ok(place) => places.push(place),
            Err(expected) => wrong.push(Wrong { item: Some(index), expected }),
        }
    }
    if wrong.is_empty() { Ok(places) } else { Err(wrong) }
}

/// A host name without a port (RFC 1123, section 2.1), in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// Creates a name. Returns `None` if it has characters that no host name has.
    pub fn new(name: &str) -> Option<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let fits = (1..=HOST_NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_plain);
        fits.then(|| Self(name.to_ascii_lowercase()))
    }

    /// Returns whether `name` is this name, whatever its case.
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }
}

impl Field for Vec<HostName> {
    type Rule = ();

    fn read(written: &Written<'_>, (): &()) -> Result<Self, Vec<Wrong>> {
        let texts: Vec<Option<&str>> = match written {
            Written::Text(text) => vec![Some(text)],
            Written::List(items) => items.iter().map(Written::as_text).collect(),
            Written::Words(words) => words.iter().map(|word| Some(word.as_str())).collect(),
            Written::Integer { .. } | Written::Other => {
                return Err(Wrong::whole(Self::expected(&())));
            }
        };
        let (mut names, mut wrong) = (Self::new(), Vec::new());
        for (index, text) in texts.into_iter().enumerate() {
            match text.and_then(HostName::new) {
                Some(name) => names.push(name),
                None => {
                    let expected = "a host name without scheme and port".to_owned();
                    wrong.push(Wrong { item: Some(index), expected });
                }
            }
        }
        if wrong.is_empty() { Ok(names) } else { Err(wrong) }
    }

    fn expected((): &()) -> String {
        "host names like \"media.example.org\"".into()
    }

    fn show(&self) -> String {
        let items: Vec<_> = self.iter().map(|HostName(name)| format!("\"{name}\"")).collect();
        format!("[{}]", items.join(", "))
    }
}

/// The path of a file; empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePath(String);

impl FilePath {
    /// Returns the path; `None` if there is no file.
    pub fn get(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|path| !path.is_empty())
    }
}

impl Field for FilePath {
    type Rule = ();

    fn read(written: &Written<'_>, (): &()) -> Result<Self, Vec<Wrong>> {
        let is_plain = |text: &&str| !text.chars().any(|c| c.is_control() || "\"\\".contains(c));
        let text = written.as_text().filter(is_plain);
        let text = text.ok_or_else(|| Wrong::whole(Self::expected(&())))?;
        Ok(Self(text.to_owned()))
    }

    fn expected((): &()) -> String {
        "\"\" or the path of a file".into()
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// The URL of a reconnect request (Enhanced RTMP v2): a full URL, `//host/app`, `/app` on the same
/// host, or empty for the URL that the client used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReconnectUrl(String);

impl ReconnectUrl {
    /// Creates a URL. Returns `None` if it has none of the forms above.
    pub fn new(url: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        let begins = ["rtmp://", "rtmps://", "/"].iter().any(|start| url.starts_with(start));
        let is_url = begins && url.len() <= URL_BYTES_MAX && url.bytes().all(is_plain);
        (is_url || url.is_empty()).then(|| Self(url.to_owned()))
    }

    /// Returns the URL; `None` if clients should use the same URL again.
    pub fn get(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|url| !url.is_empty())
    }
}

impl Field for ReconnectUrl {
    type Rule = ();

    fn read(written: &Written<'_>, (): &()) -> Result<Self, Vec<Wrong>> {
        let url = written.as_text().and_then(Self::new);
        url.ok_or_else(|| Wrong::whole(Self::expected(&())))
    }

    fn expected((): &()) -> String {
        "\"\" or a URL like \"rtmp://host/app\", \"//host/app\" or \"/app\"".into()
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// Length of a host name (RFC 1035, section 2.3.4).
const HOST_NAME_BYTES_MAX: usize = 253;

/// Length of a URL. It suffices for a long query, and the reconnect request still fits the replies
/// that may wait for a slow peer.
const URL_BYTES_MAX: usize = 2048;

const LISTEN_EXPECTED: &str = "an address like \"[::]:1935\", \"10.0.0.1:1935\" or \":1935\"";

/// Reads `ADDRESS:PORT`, or only a port for every address of the host. The error is the description
/// of a valid address.
pub(super) fn listen_address(text: &str) -> Result<ListenAddress, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if is_number(port) {
        let port: u16 = port.parse().map_err(|_| PORT_EXPECTED)?;
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into());
    }
    let listen = match text.parse::<SocketAddr>() {
        Ok(address) => address.into(),
        Err(_) => scoped_address(text).ok_or_else(|| address_remedy(text))?,
    };
    match listen {
        ListenAddress { address: SocketAddr::V6(address), interface: None }
            if address.ip().is_unicast_link_local() && address.scope_id() == 0 =>
        {
            let (ip, port) = (address.ip(), address.port());
            Err(format!("a link-local address with its interface, as in \"[{ip}%eth0]:{port}\""))
        }
        listen => Ok(listen),
    }
}

/// Reads `[ADDRESS%INTERFACE]:PORT`. The standard library only supports interface numbers.
fn scoped_address(text: &str) -> Option<ListenAddress> {
    let (scoped, port) = text.strip_prefix('[')?.rsplit_once("]:")?;
    let (ip, interface) = scoped.split_once('%')?;
    let is_name = |c: char| !c.is_whitespace() && !c.is_control() && !"/%[]\"\\".contains(c);
    let is_interface = !interface.is_empty() && interface.chars().all(is_name);
    if !is_interface || interface.len() > INTERFACE_BYTES_MAX || !is_number(port) {
        return None;
    }
    let address = SocketAddrV6::new(ip.parse().ok()?, port.parse().ok()?, 0, 0);
    Some(ListenAddress { address: address.into(), interface: Some(interface.to_owned()) })
}

/// Finds the mistake in an address and returns the remedy.
fn address_remedy(text: &str) -> String {
    if text.starts_with(SOCKET_PREFIX) {
        return "an address with a port: only http.listen and api.listen take unix sockets".into();
    }
    if text.contains("://") {
        return "ADDRESS:PORT in place of a URL, such as \":1935\"".to_owned();
    }
    if text.contains(char::is_whitespace) {
        return "an address without blanks, such as \":1935\"".to_owned();
    }
    let without_port = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(ip) = without_port.unwrap_or(text).parse::<IpAddr>() {
        let address = SocketAddr::new(ip, 1935);
        return format!("a port after the address, as in \"{address}\"");
    }
    let Some((host, port)) = text.rsplit_once(':') else { return LISTEN_EXPECTED.to_owned() };
    if !is_number(port) || port.parse::<u16>().is_err() {
        return PORT_EXPECTED.to_owned();
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.trim_end_matches(']').escape_debug();
        return format!("an IPv6 address in the brackets, and \"{inner}\" is not one");
    }
    match host {
        "*" => format!("\":{port}\" for all addresses"),
        _ if host.parse::<Ipv6Addr>().is_ok() => {
            format!("brackets around the IPv6 address, as in \"[{host}]:{port}\"")
        }
        _ if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            format!("an IPv4 address of four numbers from 0 to 255, and {host} is not one")
        }
        _ => format!(
            "an IP address in place of the name {}, such as \"127.0.0.1:{port}\" or \":{port}\"",
            host.escape_debug()
        ),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

const PORT_EXPECTED: &str = "a port from 0 to 65535 after the last colon";
/// Length of an interface name in the kernel, without the closing NUL.
const INTERFACE_BYTES_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_read_in_every_form() {
        for (text, shown) in [
            ("1935", "[::]:1935"),
            (":1935", "[::]:1935"),
            ("[::]:1935", "[::]:1935"),
            ("0.0.0.0:1935", "0.0.0.0:1935"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:1", "[::1]:1"),
            ("[fe80::1%eth0]:1935", "[fe80::1%eth0]:1935"),
            ("[fe80::1%br-0.1@x]:0", "[fe80::1%br-0.1@x]:0"),
            ("[fe80::1%2]:1935", "[fe80::1%2]:1935"),
        ] {
            assert_eq!(listen_address(text).unwrap().to_string(), shown, "{text:?}");
        }
        let scoped = listen_address("[fe80::1%eth0]:1935").unwrap();
        assert_eq!(scoped.address, "[fe80::1]:1935".parse().unwrap());
        assert_eq!(scoped.interface.as_deref(), Some("eth0"));
        let numbered = listen_address("[fe80::1%2]:1935").unwrap();
        assert_eq!(
            (numbered.address, numbered.interface),
            ("[fe80::1%2]:1935".parse().unwrap(), None)
        );
    }

    #[test]
    fn wrong_listen_address_is_answered_with_what_is_wrong_in_it() {
        for (text, expected) in [
            ("65536", PORT_EXPECTED),
            (":", PORT_EXPECTED),
            ("127.0.0.1:65536", PORT_EXPECTED),
            ("127.0.0.1:rtmp", PORT_EXPECTED),
            ("[::1]:", PORT_EXPECTED),
            ("[fe80::1%eth0]:99999", PORT_EXPECTED),
            ("", LISTEN_EXPECTED),
            ("localhost", LISTEN_EXPECTED),
            ("+1935", LISTEN_EXPECTED),
            ("127.0.0.1", "a port after the address, as in \"127.0.0.1:1935\""),
            ("::1", "a port after the address, as in \"[::1]:1935\""),
            ("[::1]", "a port after the address, as in \"[::1]:1935\""),
            ("::1:1935:", PORT_EXPECTED),
            (
                "localhost:1935",
                "an IP address in place of the name localhost, such as \"127.0.0.1:1935\" or \
                 \":1935\"",
            ),
            ("*:80", "\":80\" for all addresses"),
            (
                "256.0.0.1:1",
                "an IPv4 address of four numbers from 0 to 255, and 256.0.0.1 is not one",
            ),
            ("10.0.1:1", "an IPv4 address of four numbers from 0 to 255, and 10.0.1 is not one"),
            ("[::g]:1", "an IPv6 address in the brackets, and \"::g\" is not one"),
            ("[fe80::1%]:1", "an IPv6 address in the brackets, and \"fe80::1%\" is not one"),
            (
                "[fe80::1]:1935",
                "a link-local address with its interface, as in \"[fe80::1%eth0]:1935\"",
            ),
            (
                "unix:/run/rtmp.sock",
                "an address with a port: only http.listen and api.listen take unix sockets",
            ),
            ("rtmp://host:1935", "ADDRESS:PORT in place of a URL, such as \":1935\""),
            (" 1935", "an address without blanks, such as \":1935\""),
            ("1935 ", "an address without blanks, such as \":1935\""),
        ] {
            assert_eq!(listen_address(text), Err(expected.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn listen_names_every_item_that_is_wrong_and_bounds_their_number() {
        let words = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let read = |words: &[String]| Vec::<ListenAddress>::read(&Written::Words(words), &());
        let items = |texts: &[&str]| {
            let wrong = read(&words(texts)).unwrap_err();
            wrong.into_iter().map(|wrong| wrong.item).collect::<Vec<_>>()
        };
        assert_eq!(items(&["1935", "[::]:1935"]), [Some(1)]);
        assert_eq!(items(&["nowhere:1", ":2", ":2", "nowhere:1"]), [Some(0), Some(2), Some(3)]);
        assert_eq!(read(&words(&[":0", ":0"])).unwrap().len(), 2);
        assert_eq!(items(&[]), [None]);
        assert_eq!(read(&words(&[":0"; LISTENERS_MAX])).unwrap().len(), LISTENERS_MAX);
        assert_eq!(items(&[":0"; LISTENERS_MAX + 1]), [None]);
    }

    #[test]
    fn reconnect_urls_are_whole_relative_or_empty() {
        for (text, right) in [
            ("", true),
            ("rtmp://b.example/live?a=b", true),
            ("rtmps://b.example:443/live", true),
            ("//b.example/live", true),
            ("/live", true),
            ("live", false),
            ("http://b.example/live", false),
            ("rtmp://b.example/li ve", false),
            ("rtmp://b.example/\"", false),
            ("rtmp://b.example/\n", false),
        ] {
            let read = ReconnectUrl::read(&Written::Text(text), &());
            assert_eq!(read.is_ok(), right, "{text:?}");
            let named = read.as_ref().ok().and_then(ReconnectUrl::get);
            assert_eq!(named, Some(text).filter(|text| right && !text.is_empty()));
        }
        let long = format!("/{}", "a".repeat(URL_BYTES_MAX));
        assert_eq!(ReconnectUrl::new(&long), None);
    }

    #[test]
    fn flag_that_is_repeated_counts_as_given_last() {
        let words = ["1".to_string(), "2".to_string()];
        assert_eq!(u64::read(&Written::Words(&words), &from_to(0, 9)), Ok(2));
    }

    #[test]
    fn integer_that_does_not_fit_its_type_is_refused() {
        let written = Written::Integer { digits: "4294967296", radix: 10 };
        assert!(u32::read(&written, &from_to(0, u64::MAX)).is_err());
        assert_eq!(u64::read(&written, &from_to(0, u64::MAX)), Ok(1 << 32));
    }
}
