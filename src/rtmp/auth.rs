//! Adobe authentication: a client proves that it knows a password without sending it.
//!
//! Each step is a `connect` on a new connection. The server refuses all but the last one:
//!
//! ```text
//! app
//!     refused: code=403 need auth; authmod=adobe
//! app?authmod=adobe&user=U
//!     refused: authmod=adobe ?reason=needauth&user=U&salt=S&challenge=C&opaque=C
//! app?authmod=adobe&user=U&challenge=C2&response=R&opaque=C
//!     accepted, or refused: authmod=adobe ?reason=authfailed
//! ```
//!
//! Owns the texts of both sides, the challenges, and the digests of the two forms that clients
//! support. It keeps no state between the steps: a [`Challenge`] is computed from a secret of the
//! process, the application, the user and a time period, and is computed again to check the
//! response.
//!
//! This module never decides who needs a login. It only protects the password: RTMP sends media
//! unencrypted. The digests are MD5 because clients support nothing else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use std::fmt::{self, Write};
use subtle::ConstantTimeEq;

/// The form of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authmod {
    /// The form of Flash Media Server, which every client supports.
    Adobe,
    /// The form of Limelight: HTTP digest authentication (RFC 2617) with fixed parameters.
    Llnw,
}

impl Authmod {
    /// Returns the name that both sides use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adobe => "adobe",
            Self::Llnw => "llnw",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Adobe, Self::Llnw].into_iter().find(|authmod| authmod.as_str() == name)
    }

    /// Returns the description that makes a client begin a login.
    pub fn asks_for_user(self) -> String {
        format!("[ AccessManager.Reject ] : [ code=403 need auth; authmod={} ] : ", self.as_str())
    }

    /// Returns the description that makes a client answer a challenge. ffmpeg reads at most 256
    /// bytes. The text is shorter for users of up to
    /// [`USER_BYTES_MAX`](crate::limits::USER_BYTES_MAX).
    pub fn asks_for_proof(self, user: &str, challenge: &Challenge) -> String {
        let Challenge { salt, token } = challenge;
        let head = format!("[ AccessManager.Reject ] : [ authmod={} ] : ", self.as_str());
        // Clients compute the response from the opaque value if there is one. Some always use the
        // challenge. The two are equal here, so both kinds are right.
        match self {
            Self::Adobe => format!(
                "{head}?reason=needauth&user={user}&salt={salt}&challenge={token}&opaque={token}"
            ),
            Self::Llnw => format!("{head}?reason=needauth&user={user}&nonce={token}"),
        }
    }

    /// Returns the description that reports a wrong name or password. It does not tell which, so
    /// that nobody can search for valid names.
    pub fn fails(self) -> String {
        format!("[ AccessManager.Reject ] : [ authmod={} ] : ?reason=authfailed", self.as_str())
    }
}

/// A password or a stream key.
///
/// It is compared in constant time, and no formatter prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Creates a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns true if `text` equals the secret. The time depends only on the lengths.
    pub fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// Returns the text, for code that computes digests or masks secrets. It must never be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A challenge for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The salt of the password digest. Only Adobe's form has one.
    salt: String,
    /// The challenge, the opaque value or the nonce.
    token: String,
}

impl Challenge {
    /// Creates a challenge from unpredictable bytes. They are sent as hexadecimal digits, which no
    /// client has to decode or escape.
    pub fn new(salt: [u8; 4], token: [u8; 8]) -> Self {
        Self { salt: hex(&salt), token: hex(&token) }
    }
}

/// Computes challenges. The same arguments always give the same challenge. It contains the secret
/// itself, so it must not be logged.
#[derive(Clone)]
pub struct Challenger([u8; 32]);

impl Challenger {
    /// Creates a challenger. The secret must be random, and no other process may use it.
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// Returns the challenge for a user of an application in a time period.
    pub fn challenge(&self, authmod: Authmod, app: &str, user: &str, period: u64) -> Challenge {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(&period.to_be_bytes());
        for part in [authmod.as_str(), app, user] {
            // Each part is preceded by its length. Otherwise `ab` + `c` and `a` + `bc` would give
            // the same challenge.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = mac.finalize().into_bytes().0;
        Challenge::new([a, b, c, d], [e, f, g, h, i, j, k, l])
    }

    /// Returns a number that nobody can guess without the secret, for a number that is used once.
    pub fn unguessable(&self, number: u64) -> u64 {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        // Challenges have more than these bytes, so none of them tells this number.
        mac.update(&number.to_be_bytes());
        let [a, b, c, d, e, f, g, h, ..] = mac.finalize().into_bytes().0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for Challenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenger")
    }
}

/// The login that a client added to its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The form of the login.
    pub authmod: Authmod,
    /// The claimed user.
    pub user: String,
    /// The application as sent, without the login.
    app: String,
    proof: Option<Proof>,
}

/// An answer to a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Proof {
    /// Random text of the client: the second challenge of Adobe's form, or the client nonce.
    client_nonce: String,
    /// Number of uses of the nonce, as counted by the client. Only the llnw form has it.
    count: String,
    response: String,
}

impl Login {
    /// Returns the allocated memory (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        let of_proof =
            |p: &Proof| p.client_nonce.capacity() + p.count.capacity() + p.response.capacity();
        self.user.capacity() + self.app.capacity() + self.proof.as_ref().map_or(0, of_proof)
    }

    /// Parses the parameters that [`split`] cut from `app`. Returns `None` for an unknown form and
    /// for text that is not UTF-8.
    pub fn parse(app: &[u8], parameters: &[u8]) -> Option<Self> {
        let (app, parameters) =
            (std::str::from_utf8(app).ok()?, std::str::from_utf8(parameters).ok()?);
        let value = |key: &str| {
            let pairs = parameters.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).next()
        };
        let authmod = Authmod::parse(value("authmod")?)?;
        let nonce_key = match authmod {
            Authmod::Adobe => "challenge",
            Authmod::Llnw => "cnonce",
        };
        let text = |key| value(key).unwrap_or_default().to_owned();
        let proof = value("response").map(|response| Proof {
            client_nonce: text(nonce_key),
            count: text("nc"),
            response: response.to_owned(),
        });
        Some(Self { authmod, user: text("user"), app: app.to_owned(), proof })
    }

    /// Returns true if the login contains a response to a challenge.
    pub const fn has_proof(&self) -> bool {
        self.proof.is_some()
    }

    /// Returns true if the response to `challenge` proves knowledge of the password. The comparison
    /// takes constant time.
    pub fn proves(&self, password: &Secret, challenge: &Challenge) -> bool {
        let Some(proof) = &self.proof else { return false };
        let is_response =
            |right: String| bool::from(right.as_bytes().ct_eq(proof.response.as_bytes()));
        match self.authmod {
            Authmod::Adobe => is_response(self.adobe_response(proof, password, challenge)),
            // librtmp removes the query from the URI and ffmpeg does not, so both are tried.
            Authmod::Llnw => [Some(self.app.as_str()), self.app.split('?').next()]
                .into_iter()
                .flatten()
                .any(|app| is_response(self.llnw_response(proof, password, challenge, app))),
        }
    }

    fn adobe_response(&self, proof: &Proof, password: &Secret, challenge: &Challenge) -> String {
        let base64_md5 = |parts: [&str; 3]| STANDARD.encode(md5(&parts.concat()));
        let hidden = base64_md5([&self.user, &challenge.salt, &password.0]);
        base64_md5([&hidden, &challenge.token, &proof.client_nonce])
    }

    /// Computes HTTP digest authentication with `qop=auth` (RFC 2617, section 3.2.2). The realm is
    /// always "live" and the method "publish". An application without an instance gets the default
    /// one.
    fn llnw_response(
        &self,
        proof: &Proof,
        password: &Secret,
        challenge: &Challenge,
        app: &str,
    ) -> String {
        let hex_md5 = |text: String| hex(&md5(&text));
        let instance = if app.contains('/') { "" } else { "/_definst_" };
        let hidden = hex_md5(format!("{}:live:{}", self.user, password.0));
        let asked = hex_md5(format!("publish:/{app}{instance}"));
        let Proof { client_nonce, count, .. } = proof;
        hex_md5(format!("{hidden}:{}:{count}:{client_nonce}:auth:{asked}", challenge.token))
    }
}

/// Splits an application or a URL into the part before a login and the parameters of the login. It
/// must run before the application is parsed, because the base64 of a login may contain slashes.
pub fn split(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    const MARK: &[u8] = b"authmod=";
    let is_mark = |at: &usize| {
        let after = text.get(at + 1..).unwrap_or_default();
        matches!(text.get(*at), Some(b'?' | b'&')) && after.starts_with(MARK)
    };
    let Some(at) = (0..text.len()).find(is_mark) else { return (text, None) };
    (&text[..at], text.get(at + 1..))
}

fn md5(text: &str) -> [u8; 16] {
    Md5::digest(text).0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::USER_BYTES_MAX;

    const SALT: [u8; 4] = [1, 2, 3, 4];
    const TOKEN: [u8; 8] = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7];

    fn login(text: &str) -> Option<Login> {
        let (app, parameters) = split(text.as_bytes());
        Login::parse(app, parameters?)
    }

    fn proves(text: &str, password: &str) -> bool {
        login(text).unwrap().proves(&Secret::new(password), &Challenge::new(SALT, TOKEN))
    }

    /// The expected responses were computed with Python's hashlib.
    #[test]
    fn adobe_response_is_checked_by_its_formula() {
        let bob = "live?authmod=adobe&user=bob&challenge=deadbeef&response=";
        let right = format!("{bob}QPSaI4tGCGgul2T6pCefig==");
        assert!(proves(&right, "s3cret"));
        assert!(proves(&format!("{right}&opaque=a0a1a2a3a4a5a6a7"), "s3cret"));
        for wrong in [
            format!("{bob}38OBO3dxRLS06NU7b5Ih1Q=="),
            format!("{bob}QPSaI4tGCGgul2T6pCefig="),
            format!("{bob}QPSaI4tGCGgul2T6pCefig===="),
            bob.to_owned(),
            right.replace("bob", "bib"),
            right.replace("deadbeef", "deadbeee"),
            "live?authmod=adobe&user=bob".to_owned(),
        ] {
            assert!(!proves(&wrong, "s3cret"), "{wrong}");
        }
        assert!(!proves(&right, "S3cret"));
        assert!(!proves(&right, ""));
        let unicode = "x/y?authmod=adobe&user=söan&challenge=qrvM3Q==\
                       &response=6Jst3Fi1UMOL6Nntz9ve6A==";
        assert!(proves(unicode, "pä ss"));
    }

    #[test]
    fn llnw_response_is_checked_by_its_formula() {
        let added = "authmod=llnw&user=bob&nonce=a0a1a2a3a4a5a6a7&cnonce=deadbeef&nc=00000001";
        for (app, response) in [
            ("live", "27603e64c5af458ad6c8416ca7e675ae"),
            ("live/inst", "c182ec33293fae667ec510e565662c3d"),
            ("live?x=1", "5f602b95378899e09dd468335363afeb"),
            ("live?x=1", "27603e64c5af458ad6c8416ca7e675ae"),
        ] {
            let text = format!("{app}?{added}&response={response}");
            assert!(proves(&text, "s3cret"), "{text}");
            assert!(!proves(&text, "s3cre"), "{text}");
            assert!(!proves(&text.replace("nc=00000001", "nc=00000002"), "s3cret"), "{text}");
            assert!(!proves(&text.replace("llnw", "adobe"), "s3cret"), "{text}");
        }
    }

    #[test]
    fn another_challenge_makes_another_response() {
        let text =
            "live?authmod=adobe&user=bob&challenge=deadbeef&response=QPSaI4tGCGgul2T6pCefig==";
        for (salt, token) in [([1, 2, 3, 5], TOKEN), (SALT, [0; 8])] {
            let challenge = Challenge::new(salt, token);
            assert!(!login(text).unwrap().proves(&Secret::new("s3cret"), &challenge));
        }
    }

    /// Computed with Python's hmac.
    #[test]
    fn challenges_follow_from_the_secret_and_nothing_else() {
        let challenger = Challenger::new(std::array::from_fn(|index| index as u8));
        let adobe = challenger.challenge(Authmod::Adobe, "live", "bob", 0);
        assert_eq!((&*adobe.salt, &*adobe.token), ("ab0c9746", "9b0b9159e9f63136"));
        let llnw = challenger.challenge(Authmod::Llnw, "live", "bob", 7);
        assert_eq!((&*llnw.salt, &*llnw.token), ("b7ae66dc", "27ffa01ec96a0835"));
        for (app, user, period) in [("live", "bob", 1), ("liveb", "ob", 0), ("live", "bo", 0)] {
            assert_ne!(challenger.challenge(Authmod::Adobe, app, user, period), adobe);
        }
        let other = Challenger::new([0; 32]);
        assert_ne!(other.challenge(Authmod::Adobe, "live", "bob", 0), adobe);
    }

    #[test]
    fn what_a_login_added_is_cut_off_wherever_it_begins() {
        for (text, app, added) in [
            ("live", "live", None),
            ("live?x=1", "live?x=1", None),
            ("live?authmod=adobe&user=u", "live", Some("authmod=adobe&user=u")),
            ("live?x=1?authmod=adobe", "live?x=1", Some("authmod=adobe")),
            ("live?x=1&authmod=llnw&a=?authmod=b", "live?x=1", Some("authmod=llnw&a=?authmod=b")),
            ("?authmod=", "", Some("authmod=")),
            ("authmod=adobe", "authmod=adobe", None),
            ("live?xauthmod=adobe", "live?xauthmod=adobe", None),
            ("live?authmod", "live?authmod", None),
            ("", "", None),
            ("?", "?", None),
        ] {
            let (left, right) = split(text.as_bytes());
            assert_eq!((left, right), (app.as_bytes(), added.map(str::as_bytes)), "{text}");
        }
    }

    #[test]
    fn a_login_is_read_with_whatever_is_missing() {
        let user = login("live?authmod=adobe&user=bob").unwrap();
        assert_eq!((user.authmod, &*user.user, user.has_proof()), (Authmod::Adobe, "bob", false));
        assert_eq!(login("live?authmod=llnw").unwrap().user, "");
        assert!(login("live?authmod=llnw&response=").unwrap().has_proof());
        assert_eq!(login("live?authmod=adobe&user=a=b&&=").unwrap().user, "a=b");
        for none in ["live?authmod=", "live?authmod=Adobe", "live?authmod=ntlm&user=u"] {
            assert_eq!(login(none), None, "{none}");
        }
        assert_eq!(Login::parse(b"live", b"authmod=adobe&user=\xff"), None);
    }

    /// The words that ffmpeg and librtmp search for.
    #[test]
    fn descriptions_are_what_clients_search_and_fit_their_buffers() {
        let challenge = Challenge::new(SALT, TOKEN);
        let user = "u".repeat(USER_BYTES_MAX);
        for (authmod, name) in
            [(Authmod::Adobe, "authmod=adobe "), (Authmod::Llnw, "authmod=llnw ")]
        {
            let asks = authmod.asks_for_user();
            assert!(asks.contains("code=403 need auth") && asks.contains(name), "{asks}");
            let proof = authmod.asks_for_proof(&user, &challenge);
            assert!(proof.contains("?reason=needauth&user=u") && proof.contains(name), "{proof}");
            assert!(proof.len() < 256, "{} bytes", proof.len());
            let fails = authmod.fails();
            assert!(fails.ends_with("?reason=authfailed") && fails.contains(name), "{fails}");
        }
        let adobe = Authmod::Adobe.asks_for_proof("bob", &challenge);
        let values = "&user=bob&salt=01020304&challenge=a0a1a2a3a4a5a6a7&opaque=a0a1a2a3a4a5a6a7";
        assert!(adobe.ends_with(values), "{adobe}");
        let llnw = Authmod::Llnw.asks_for_proof("bob", &challenge);
        assert!(llnw.ends_with("&user=bob&nonce=a0a1a2a3a4a5a6a7"), "{llnw}");
    }

    #[test]
    fn secrets_are_shown_by_no_formatter() {
        let secret = Secret::new("s3cret");
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_eq!(format!("{:?}", Challenger::new([7; 32])), "Challenger");
        assert!(secret.is("s3cret"));
        assert!(!secret.is("s3cre") && !secret.is("s3cret ") && !secret.is(""));
    }
}
