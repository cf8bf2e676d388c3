//! The types that a setting can have: how each is read, what it accepts, how it is shown.
//!
//! Knows nothing of keys, files or flags.

use std::net::{Ipv6Addr, SocketAddr};

/// A value as somebody wrote it, in the file or behind a flag.
pub(super) enum Written<'a> {
    /// A string in the file.
    Text(&'a str),
    /// An integer in the file, its digits without prefix and underscores.
    Integer { digits: &'a str, radix: u32 },
    /// An array in the file.
    List(Vec<Self>),
    /// What stood behind a flag, once for each time it was given.
    Words(&'a [String]),
    /// A value of a type that no setting has.
    Other,
}

impl<'a> Written<'a> {
    /// The text of a single value; a flag that is repeated counts as it was given last.
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

/// A type of setting.
pub(super) trait Field: Sized {
    /// What narrows the values of the type down.
    type Rule;

    /// The value, or nothing if it is not what [`Field::expected`] says.
    fn read(written: &Written<'_>, rule: &Self::Rule) -> Option<Self>;

    /// What may be written, as it follows "expected".
    fn expected(rule: &Self::Rule) -> String;

    /// The value as the file writes it.
    fn show(&self) -> String;
}

/// Sets `field` to what is written, or says what would have been right.
pub(super) fn assign<T: Field>(
    field: &mut T,
    written: &Written<'_>,
    rule: &T::Rule,
) -> Result<(), String> {
    *field = T::read(written, rule).ok_or_else(|| T::expected(rule))?;
    Ok(())
}

/// See [`Field::show`].
pub(super) fn show<T: Field>(field: &T) -> String {
    field.show()
}

/// See [`Field::expected`]; the field is there for its type only.
pub(super) fn expected_by<T: Field>(_: &T, rule: &T::Rule) -> String {
    T::expected(rule)
}

/// The integers that a key accepts, both ends included.
pub(super) struct Range {
    min: u64,
    max: u64,
    /// Whether 0, which then means "none", is accepted below `min`.
    or_zero: bool,
}

/// The integers from `min` to `max`.
pub(super) const fn from_to(min: u64, max: u64) -> Range {
    Range { min, max, or_zero: false }
}

/// 0 and the integers from `min` to `max`.
pub(super) const fn either_zero_or(min: u64, max: u64) -> Range {
    Range { min, max, or_zero: true }
}

macro_rules! integer_fields {
    ($($type:ty),+) => {$(
        impl Field for $type {
            type Rule = Range;

            fn read(written: &Written<'_>, rule: &Range) -> Option<Self> {
                let value = written.as_integer()?;
                let is_in_range = (rule.min..=rule.max).contains(&value);
                let accepted = is_in_range || (rule.or_zero && value == 0);
                Self::try_from(value).ok().filter(|_| accepted)
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

/// A type with few values, each of which has a name.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// All names with their values.
    const CHOICES: &'static [(&'static str, Self)];
}

impl<T: Choice> Field for T {
    type Rule = ();

    fn read(written: &Written<'_>, (): &()) -> Option<Self> {
        let text = written.as_text()?;
        T::CHOICES.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
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

impl Field for Vec<SocketAddr> {
    type Rule = ();

    /// One address or a list of them. The same address twice could not be bound twice.
    fn read(written: &Written<'_>, (): &()) -> Option<Self> {
        let texts: Vec<&str> = match written {
            Written::Text(text) => vec![text],
            Written::List(items) => items.iter().map(Written::as_text).collect::<Option<_>>()?,
            Written::Words(words) => words.iter().map(String::as_str).collect(),
            Written::Integer { .. } | Written::Other => return None,
        };
        let mut addresses = Self::with_capacity(texts.len());
        for text in texts {
            let address = listen_address(text)?;
            if address.port() != 0 && addresses.contains(&address) {
                return None;
            }
            addresses.push(address);
        }
        (!addresses.is_empty()).then_some(addresses)
    }

    fn expected((): &()) -> String {
        "different addresses like \"[::]:1935\", \"10.0.0.1:1935\" or \":1935\"".into()
    }

    fn show(&self) -> String {
        let items: Vec<_> = self.iter().map(|address| format!("\"{address}\"")).collect();
        format!("[{}]", items.join(", "))
    }
}

/// A URL as a reconnect request names it (Enhanced RTMP v2): whole, `//host/app`, `/app` behind
/// the host that the client knows, or empty for the one it came by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReconnectUrl(String);

impl ReconnectUrl {
    /// The URL if it is one that can be asked for; see the type.
    pub fn new(url: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        let begins = ["rtmp://", "rtmps://", "/"].iter().any(|start| url.starts_with(start));
        let is_url = begins && url.len() <= URL_BYTES_MAX && url.bytes().all(is_plain);
        (is_url || url.is_empty()).then(|| Self(url.to_owned()))
    }

    /// The URL; none if clients are to come by the one that they know.
    pub fn get(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|url| !url.is_empty())
    }
}

impl Field for ReconnectUrl {
    type Rule = ();

    fn read(written: &Written<'_>, (): &()) -> Option<Self> {
        Self::new(written.as_text()?)
    }

    fn expected((): &()) -> String {
        "\"\" or a URL like \"rtmp://host/app\", \"//host/app\" or \"/app\"".into()
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// A URL with a long query; a reconnect request still fits what waits for a slow peer.
const URL_BYTES_MAX: usize = 2048;

/// `ADDRESS:PORT`, or a port alone on every address that the host has.
fn listen_address(text: &str) -> Option<SocketAddr> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
        return port.parse().ok().map(|port: u16| (Ipv6Addr::UNSPECIFIED, port).into());
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_read_in_every_form() {
        const CASES: &[(&str, Option<&str>)] = &[
            ("1935", Some("[::]:1935")),
            (":1935", Some("[::]:1935")),
            ("[::]:1935", Some("[::]:1935")),
            ("0.0.0.0:1935", Some("0.0.0.0:1935")),
            ("127.0.0.1:0", Some("127.0.0.1:0")),
            ("[::1]:1", Some("[::1]:1")),
            ("65536", None),
            (":", None),
            ("", None),
            ("127.0.0.1", None),
            ("::1:1935:", None),
            ("localhost:1935", None),
            ("+1935", None),
            (" 1935", None),
            ("1935 ", None),
        ];
        for (text, expected) in CASES {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(listen_address(text), expected, "{text:?}");
        }
    }

    #[test]
    fn listen_refuses_an_address_given_twice_but_not_two_ports_of_the_systems_choice() {
        let words = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let read = |words: &[String]| Vec::<SocketAddr>::read(&Written::Words(words), &());
        assert_eq!(read(&words(&["1935", "[::]:1935"])), None);
        assert_eq!(read(&words(&[":0", ":0"])).unwrap().len(), 2);
        assert_eq!(read(&[]), None);
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
            assert_eq!(read.is_some(), right, "{text:?}");
            let named = read.as_ref().and_then(ReconnectUrl::get);
            assert_eq!(named, Some(text).filter(|text| right && !text.is_empty()));
        }
        let long = format!("/{}", "a".repeat(URL_BYTES_MAX));
        assert_eq!(ReconnectUrl::new(&long), None);
    }

    #[test]
    fn flag_that_is_repeated_counts_as_given_last() {
        let words = ["1".to_string(), "2".to_string()];
        assert_eq!(u64::read(&Written::Words(&words), &from_to(0, 9)), Some(2));
    }

    #[test]
    fn integer_that_does_not_fit_its_type_is_refused() {
        let written = Written::Integer { digits: "4294967296", radix: 10 };
        assert_eq!(u32::read(&written, &from_to(0, u64::MAX)), None);
        assert_eq!(u64::read(&written, &from_to(0, u64::MAX)), Some(1 << 32));
    }
}
