//! The command line: commands, flags, help texts and exit codes.
//!
//! Owns the flags and how they combine with the configuration file. Values are not validated here:
//! flags and file are read by the same rules of [`tiderace::config`].

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tiderace::config::{ConfigError, ConfigErrors, Draft, FileText, FlagValue, Settings};
#[cfg(feature = "load")]
use tiderace::load::{
    LoadError, help,
    subcommand::{LoadCommand, LoadVerdict},
};
use tiderace::net::{self, StartError};

use crate::settings_file::{self, Source};

/// A live RTMP server that runs on one core.
#[derive(Debug, Parser)]
#[command(
    version,
    long_about = LONG_ABOUT,
    after_help = "More, with examples and exit codes: tiderace --help",
    after_long_help = AFTER_LONG_HELP,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<CliCommand>,
    #[command(flatten)]
    serve: Serve,
}

impl Cli {
    /// Returns the command to run, which is the server by default.
    pub(crate) fn into_command(self) -> CliCommand {
        self.command.unwrap_or_else(|| CliCommand::Serve(Box::new(self.serve)))
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Run the server. This is the default command.
    #[command(after_long_help = AFTER_LONG_HELP)]
    Serve(Box<Serve>),
    /// Check a configuration file: report every mistake in it, and everything that would keep the
    /// server from starting with it on this machine.
    Check {
        /// The file to check.
        file: PathBuf,
    },
    /// Print a configuration file with every key, its default and its meaning.
    Config,
    /// Print a systemd unit for the server.
    Systemd {
        /// The service, or the socket that keeps the port open while the service restarts.
        unit: SystemdUnit,
    },
    /// Measure an RTMP server, this one or another.
    #[cfg(feature = "load")]
    #[command(subcommand, after_long_help = help::LOAD)]
    Load(Box<LoadCommand>),
}

/// A unit of systemd.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SystemdUnit {
    Service,
    Socket,
}

impl SystemdUnit {
    /// Returns the content of the unit file.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Service => include_str!("systemd/tiderace.service"),
            Self::Socket => include_str!("systemd/tiderace.socket"),
        }
    }
}

/// The flags of the server. Each overrides its key in the file.
#[derive(Debug, Default, Args)]
pub(crate) struct Serve {
    /// Read settings from this file; see `tiderace config`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on: ADDRESS:PORT, or PORT for all addresses; may be repeated [default:
    /// [::]:1935].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<String>,
    /// Address for HTTP, which shows the page and plays streams, or unix:/path; "" for none; may
    /// be repeated [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS:PORT")]
    http_listen: Vec<String>,
    /// Lowest level to log: error, warn, info, debug, trace [default: info].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Maximum number of connections; 0: as many as the descriptor limit allows [default: 0].
    #[arg(long, value_name = "N")]
    connections_max: Option<String>,
    /// Start position of players: keyframe, next-keyframe, live [default: keyframe].
    #[arg(long, value_name = "MODE")]
    start: Option<String>,
    /// Policy for a second publisher of a stream: reject, replace, replace-if-silent [default:
    /// replace-if-silent].
    #[arg(long, value_name = "POLICY")]
    duplicate: Option<String>,
    /// Time to keep the players of a stream after its publisher has left [default: 15000].
    #[arg(long, value_name = "MILLISECONDS")]
    linger_ms: Option<String>,
    /// Policy for players of a stream without a publisher: wait, refuse [default: wait].
    #[arg(long, value_name = "MODE")]
    absent: Option<String>,
    /// Size of sent chunks [default: 60000].
    #[arg(long, value_name = "BYTES")]
    chunk_size: Option<String>,
}

impl Serve {
    /// Reads the file at the start, if there is one, and then the flags, which override it.
    pub(crate) fn read(&self) -> Result<(Draft, Source), ConfigError> {
        let Some(path) = &self.config else {
            return Ok((Draft::read(None, &self.flags()), Source::Regular));
        };
        let (text, source) = settings_file::read(path)?;
        Ok((draft(path, &text, &self.flags()), source))
    }

    /// Reads the file again for a reload. Fails if the file would remove an access rule of the
    /// `running` settings without releasing it.
    pub(crate) fn read_again(
        &self,
        source: Source,
        running: &Settings,
    ) -> Result<Settings, ConfigErrors> {
        let mut draft = match &self.config {
            Some(path) => draft(path, &settings_file::read_again(path, source)?, &self.flags()),
            None => Draft::read(None, &self.flags()),
        };
        draft.keep_rules_of(running);
        draft.finish()
    }

    fn flags(&self) -> Vec<FlagValue> {
        let listen = FlagValue { flag: "--listen", key: "listen", values: self.listen.clone() };
        let http = self.http_listen.clone();
        let http = FlagValue { flag: "--http-listen", key: "http.listen", values: http };
        let single = [
            ("--log-level", "log_level", &self.log_level),
            ("--connections-max", "limits.connections_max", &self.connections_max),
            ("--start", "play.start", &self.start),
            ("--duplicate", "publish.duplicate", &self.duplicate),
            ("--linger-ms", "publish.linger_ms", &self.linger_ms),
            ("--absent", "play.absent", &self.absent),
            ("--chunk-size", "rtmp.chunk_size", &self.chunk_size),
        ];
        let single = single.map(|(flag, key, value)| FlagValue {
            flag,
            key,
            values: value.iter().cloned().collect(),
        });
        [listen, http].into_iter().chain(single).filter(|flag| !flag.values.is_empty()).collect()
    }
}

fn draft(path: &Path, text: &str, flags: &[FlagValue]) -> Draft {
    let name = path.display().to_string();
    let mut draft = Draft::read(Some(FileText { name: &name, text }), flags);
    draft.expect_some_key();
    draft
}

/// Returns true if a command line with this first argument runs the server. `main` calls it before
/// it parses the command line, so that signals are caught before anything else is done.
pub(crate) fn runs_server(first: Option<&OsStr>) -> bool {
    first.is_none_or(|first| first == "serve" || first.as_encoded_bytes().starts_with(b"-"))
}

/// Checks a file without flags, for `tiderace check`.
pub(crate) fn check(path: &Path) -> Result<Findings, ConfigError> {
    let (text, _) = settings_file::read(path)?;
    Ok(Findings::of(&draft(path, &text, &[])))
}

/// Mistakes in settings, and reasons why a server with these settings could not start.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// A line for each mistake, with its place.
    pub(crate) mistakes: Vec<String>,
    /// The exit code for the first mistake.
    pub(crate) exit: Option<Exit>,
    /// A line for each address in use. It is not a mistake, because a running server uses its
    /// addresses.
    pub(crate) in_use: Vec<String>,
}

impl Findings {
    pub(crate) fn of(draft: &Draft) -> Self {
        let mut findings = Self::default();
        if let Err(errors) = draft.finish() {
            findings.exit = Some(errors.first().into());
            findings.mistakes.extend(errors.iter().map(ToString::to_string));
        }
        for error in net::check(draft.settings()) {
            let line = at_its_key(draft, &error);
            if error.is_in_use() {
                findings.in_use.push(line);
            } else {
                findings.exit = findings.exit.or_else(|| Some((&error).into()));
                findings.mistakes.push(line);
            }
        }
        findings
    }
}

fn at_its_key(draft: &Draft, error: &StartError) -> String {
    match error.key() {
        Some(key) => format!("{}: key \"{key}\": {error}", draft.place(key)),
        None => error.to_string(),
    }
}

/// Exit codes of the process. The numbers are part of the interface, because scripts read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "load"), expect(dead_code, reason = "a measurement ends with some"))]
#[repr(u8)]
pub(crate) enum Exit {
    /// Success. This includes a drain that ended in time.
    Ok = 0,
    /// The command line is wrong: an unknown flag, or an invalid value of a flag.
    Usage = 2,
    /// The configuration file cannot be read, or contains a mistake.
    Configuration = 3,
    /// The server cannot listen on an address: it is in use, or not an address of this machine.
    CannotBind = 4,
    /// The descriptor limit is too low for the configured connections.
    DescriptorLimit = 5,
    /// The system refused another resource.
    Io = 6,
    /// The measured server cannot be reached.
    Unreachable = 10,
    /// The measured server refused a connection that the measurement depends on.
    Refused = 11,
    /// The measured process does not exist, or is not the server.
    NoProcess = 12,
    /// The measured server closed a connection that the measurement depends on.
    BrokenOff = 13,
    /// The load generator did not keep up, so figures are withheld.
    Lagged = 14,
    /// A threshold of `--fail-if` was missed.
    Missed = 15,
    /// The two reports are not comparable.
    Incomparable = 16,
    /// The file to publish is not a valid media file.
    BadMedia = 17,
    /// The load generator lost its schedule, so the run was ended early.
    Overloaded = 18,
    /// More of the load failed than `--failed-max-share` allows.
    Failed = 19,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&ConfigError> for Exit {
    fn from(error: &ConfigError) -> Self {
        match error {
            ConfigError::FlagValue { .. } => Self::Usage,
            ConfigError::Unreadable { .. }
            | ConfigError::ReadOnce { .. }
            | ConfigError::Empty { .. }
            | ConfigError::Syntax { .. }
            | ConfigError::UnknownKey { .. }
            | ConfigError::FileValue { .. }
            | ConfigError::RuleLost { .. } => Self::Configuration,
        }
    }
}

impl From<&StartError> for Exit {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::CannotBind { .. }
            | StartError::CannotBindPath { .. }
            | StartError::NoInterface { .. }
            | StartError::Overlap { .. }
            | StartError::HandedOver(_) => Self::CannotBind,
            StartError::Http(error) | StartError::Api(error) => (&**error).into(),
            StartError::DescriptorLimit { .. } => Self::DescriptorLimit,
            StartError::NoToken { .. } | StartError::BadToken { .. } => Self::Configuration,
            StartError::Io(_) => Self::Io,
        }
    }
}

#[cfg(feature = "load")]
impl From<&LoadError> for Exit {
    fn from(error: &LoadError) -> Self {
        match error {
            LoadError::BadTarget { .. }
            | LoadError::BadThreshold { .. }
            | LoadError::ComparedRuns { .. }
            | LoadError::ComparedTwice { .. }
            | LoadError::UnknownFigure { .. }
            | LoadError::KeyList { .. }
            | LoadError::KeyCount { .. } => Self::Usage,
            LoadError::UnknownHost { .. } | LoadError::Unreachable { .. } => Self::Unreachable,
            LoadError::CannotListen { .. } => Self::CannotBind,
            LoadError::Refused { .. } => Self::Refused,
            LoadError::BrokenOff { .. } => Self::BrokenOff,
            LoadError::BadMedia { .. }
            | LoadError::NoMedia { .. }
            | LoadError::FileTooLarge { .. } => Self::BadMedia,
            LoadError::DescriptorLimit { .. } => Self::DescriptorLimit,
            LoadError::Process(_) => Self::NoProcess,
            LoadError::Helper { .. }
            | LoadError::Report { .. }
            | LoadError::File { .. }
            | LoadError::Io(_) => Self::Io,
        }
    }
}

#[cfg(feature = "load")]
impl From<LoadVerdict> for Exit {
    fn from(verdict: LoadVerdict) -> Self {
        match verdict {
            LoadVerdict::Good => Self::Ok,
            LoadVerdict::Overloaded => Self::Overloaded,
            LoadVerdict::Lagged => Self::Lagged,
            LoadVerdict::Failed => Self::Failed,
            LoadVerdict::Missed => Self::Missed,
            LoadVerdict::Incomparable => Self::Incomparable,
        }
    }
}

const LONG_ABOUT: &str = "\
A live RTMP server that runs on one core.

Encoders publish streams, and players play them. The server needs no
configuration: without arguments it listens on port 1935, and logs the URLs to
publish to and to play from. The name of a stream is its application and its
key, which are \"live\" and \"show\" in the examples below. A stream exists while
an encoder publishes it.";

const AFTER_LONG_HELP: &str = "\
Publish:
  ffmpeg -re -i talk.mp4 -c copy -f flv rtmp://localhost/live/show
  OBS: Settings, Stream, Service \"Custom\", Server rtmp://localhost/live, Stream Key show

Play:
  ffplay rtmp://localhost/live/show
  vlc rtmp://localhost/live/show

Settings:
  tiderace config > tiderace.toml    write every key, its default and its meaning
  tiderace check tiderace.toml       report every mistake, and what would prevent a start
  tiderace --config tiderace.toml    run with this file; flags override it

Signals:
  SIGHUP   Reload the file, and log the changes that need a restart. A file with a
           mistake, or without an access rule that is in force, changes nothing.
  SIGTERM  Tell every peer, then exit. Clients that support it are asked to reconnect
           (drain_url), and are served for up to drain_ms. A second SIGTERM exits at once.
  SIGUSR1  Ask clients to reconnect, without a shutdown.
  SIGQUIT  Exit at once, without telling the peers. This is the default of the system.

As a systemd service:
  tiderace systemd service > /etc/systemd/system/tiderace.service
  tiderace systemd socket > /etc/systemd/system/tiderace.socket

Exit codes:
  0  success
  2  the command line is wrong
  3  the configuration file cannot be read, or contains a mistake
  4  cannot listen on an address: it is in use, not of this machine, or not permitted
  5  the descriptor limit is too low for the configured connections
  6  the system refused another resource
 10 to 17  errors of tiderace load: see tiderace load --help";

#[cfg(test)]
mod tests {
    use std::io;

    use clap::CommandFactory;
    use tiderace::config::Start;

    use super::*;

    fn command(line: &str) -> CliCommand {
        Cli::try_parse_from(line.split(' ')).unwrap().into_command()
    }

    fn serve(line: &str) -> Serve {
        match command(line) {
            CliCommand::Serve(serve) => *serve,
            other => panic!("{line} is {other:?}"),
        }
    }

    impl Serve {
        fn settings(&self) -> Result<Settings, ConfigErrors> {
            self.read()?.0.finish()
        }
    }

    #[test]
    fn server_is_told_from_other_commands_by_the_first_argument() {
        for subcommand in Cli::command().get_subcommands() {
            let name = subcommand.get_name();
            assert_eq!(runs_server(Some(name.as_ref())), name == "serve", "{name}");
        }
        for first in [None, Some("--config"), Some("--listen=:1"), Some("-h")] {
            assert!(runs_server(first.map(OsStr::new)), "{first:?}");
        }
        assert!(!runs_server(Some("help".as_ref())));
    }

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_arguments_serve_with_the_defaults() {
        for line in ["tiderace", "tiderace serve"] {
            assert_eq!(serve(line).settings(), Ok(Settings::default()));
        }
    }

    #[test]
    fn every_flag_sets_its_key_with_and_without_the_word_serve() {
        const FLAGS: &str = "--listen 127.0.0.1:1 --listen :2 --log-level warn \
             --connections-max 7 --start live --duplicate reject --linger-ms 1 --absent refuse \
             --chunk-size 4096";
        for program in ["tiderace", "tiderace serve"] {
            let args = serve(&format!("{program} {FLAGS}"));
            let settings = args.settings().unwrap();
            let defaults = Settings::default();
            let mut changed = defaults.changed_at_restart_only(&settings);
            changed.extend(defaults.changed_live(&settings).into_iter().map(|change| change.key));
            let mut keys: Vec<_> = args.flags().iter().map(|flag| flag.key).collect();
            changed.sort_unstable();
            keys.sort_unstable();
            assert_eq!(changed, keys);
            assert_eq!(keys.len(), 8);
            assert_eq!(settings.listen.len(), 2);
            assert_eq!(settings.play.start, Start::Live);
        }
    }

    #[test]
    fn defaults_named_in_the_help_are_the_defaults() {
        let sample = Settings::sample();
        let help = Cli::command().render_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for flag in serve(
            "tiderace --log-level x --connections-max x --start x --duplicate x --linger-ms x \
             --absent x --chunk-size x",
        )
        .flags()
        {
            let name = flag.key.rsplit('.').next().unwrap();
            let line = sample.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
            let default = line.split(' ').nth(2).unwrap().trim_matches('"');
            let about = help.split(flag.flag).nth(1).unwrap();
            let about = about.split("--").next().unwrap();
            assert!(about.contains(&format!("[default: {default}]")), "{}: {about}", flag.flag);
        }
    }

    #[test]
    fn bad_value_of_a_flag_is_a_usage_error_that_names_the_flag() {
        for (line, expected) in [
            (
                "tiderace --start foo",
                "--start: got \"foo\", expected one of keyframe, next-keyframe, live",
            ),
            (
                "tiderace --listen 1935 --listen nowhere",
                "--listen: got \"nowhere\", expected an address like \
                 \"[::]:1935\", \"10.0.0.1:1935\" or \":1935\"",
            ),
            (
                "tiderace serve --chunk-size 65537",
                "--chunk-size: got \"65537\", expected an integer from 128 to 65536",
            ),
        ] {
            let errors = serve(line).settings().unwrap_err();
            assert_eq!(errors.to_string(), expected);
            assert_eq!(Exit::from(errors.first()), Exit::Usage);
        }
    }

    #[test]
    fn missing_file_is_a_configuration_error_that_names_it() {
        let errors = serve("tiderace --config /nonexistent/t.toml").settings().unwrap_err();
        assert!(errors.to_string().starts_with("/nonexistent/t.toml: cannot read: "), "{errors}");
        assert_eq!(Exit::from(errors.first()), Exit::Configuration);
    }

    #[test]
    fn each_start_error_has_a_code_of_its_own() {
        let address = "[::]:1935".parse().unwrap();
        let in_use = || io::Error::from(io::ErrorKind::AddrInUse);
        for (error, exit) in [
            (StartError::CannotBind { address, error: in_use() }, Exit::CannotBind),
            (StartError::DescriptorLimit { needed: 2, limit: 1 }, Exit::DescriptorLimit),
            (StartError::Io(in_use()), Exit::Io),
        ] {
            assert_eq!(Exit::from(&error), exit);
        }
    }

    #[cfg(feature = "load")]
    #[test]
    fn help_of_load_has_a_line_for_each_code_that_it_can_end_with() {
        for exit in [
            Exit::Ok,
            Exit::Usage,
            Exit::DescriptorLimit,
            Exit::Io,
            Exit::Unreachable,
            Exit::Refused,
            Exit::NoProcess,
            Exit::BrokenOff,
            Exit::Lagged,
            Exit::Missed,
            Exit::Incomparable,
            Exit::BadMedia,
            Exit::Overloaded,
            Exit::Failed,
        ] {
            let code = exit as u8;
            assert!(help::LOAD.contains(&format!("\n{code:3}  ")), "{exit:?}");
        }
    }

    #[test]
    fn flags_that_have_nothing_to_do_with_each_other_do_not_mix() {
        assert!(Cli::try_parse_from(["tiderace", "--start", "live", "config"]).is_err());
        assert!(Cli::try_parse_from(["tiderace", "check"]).is_err());
        assert!(matches!(command("tiderace config"), CliCommand::Config));
        assert!(matches!(command("tiderace check a.toml"), CliCommand::Check { .. }));
    }

    #[cfg(feature = "load")]
    #[test]
    fn a_file_to_publish_excludes_what_describes_a_synthetic_stream() {
        let publish = ["tiderace", "load", "publish", "rtmp://host/live/show", "--file", "a.flv"];
        assert!(Cli::try_parse_from(publish).is_ok());
        let synthetic = ["--fps", "25"];
        assert!(Cli::try_parse_from(publish.into_iter().chain(synthetic)).is_err());
    }
}
