//! The servers that are measured, and how each is started.
//!
//! Owns their command lines and configurations, and the packages they need. Both have variables in
//! braces, which are replaced when a server is started, so they can be printed as they are.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::record::Setup;
use crate::support::program;
use crate::support::server::http_of;

/// A server with a particular setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Default settings.
    Tiderace,
    /// Default settings, with players over HTTP-FLV.
    TideraceHttpFlv,
    /// With a merge window.
    TideraceMerging,
    /// Default settings, with many other idle sessions.
    TideraceCrowded,
    /// Default settings, with idle sessions only.
    TideraceAsleep,
    /// Default settings.
    Nginx,
    /// With large chunks.
    NginxTuned,
    WriteFloor,
    SendfileFloor,
    /// Floors that hold frames as long as `TideraceMerging`.
    WriteFloorMerging,
    SendfileFloorMerging,
    /// A server of the user, by its place on the command line.
    User(usize),
}

/// A server that the user names: `LABEL=COMMAND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserServer {
    pub(crate) label: String,
    pub(crate) command: String,
}

impl UserServer {
    /// Parses the argument of `--server`.
    ///
    /// # Errors
    /// A text that says what was expected.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let parts = text.split_once('=').filter(|(label, command)| {
            !label.is_empty() && !label.contains('|') && !command.trim().is_empty()
        });
        let (label, command) =
            parts.ok_or("expected LABEL=COMMAND, such as 'SRS=srs -c a.conf'")?;
        Ok(Self { label: label.to_owned(), command: command.to_owned() })
    }
}

const NGINX: &str = "/usr/sbin/nginx";
const NGINX_RTMP: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
const NGINX_PACKAGES: [&str; 2] = ["nginx", "libnginx-mod-rtmp"];
/// The file with the configuration of a server, in its folder.
pub(crate) const CONFIG: &str = "server.conf";

impl Peer {
    /// Returns the unique name of the setup.
    pub(crate) fn label(self, users: &[UserServer]) -> String {
        match self {
            Self::Tiderace => "Tiderace",
            Self::TideraceHttpFlv => "Tiderace over HTTP-FLV",
            Self::TideraceMerging => "Tiderace with merge_ms = 350",
            Self::TideraceCrowded => "Tiderace with 10,000 sleeping sessions",
            Self::TideraceAsleep => "a sleeping session",
            Self::Nginx => "nginx-rtmp",
            Self::NginxTuned => "nginx-rtmp tuned",
            Self::WriteFloor => "write floor",
            Self::SendfileFloor => "sendfile floor",
            Self::WriteFloorMerging => "write floor with --merge-ms 350",
            Self::SendfileFloorMerging => "sendfile floor with --merge-ms 350",
            Self::User(index) => &users[index].label,
        }
        .to_owned()
    }

    /// Returns the column of the table for the setup, if it has one where it is the reference.
    pub(crate) fn column(self, users: &[UserServer]) -> String {
        match self {
            Self::WriteFloorMerging => Self::WriteFloor.label(users),
            Self::SendfileFloorMerging => Self::SendfileFloor.label(users),
            _ => self.label(users),
        }
    }

    /// Returns whether it relays length-prefixed frames instead of RTMP.
    pub(crate) const fn is_floor(self) -> bool {
        matches!(
            self,
            Self::WriteFloor
                | Self::SendfileFloor
                | Self::WriteFloorMerging
                | Self::SendfileFloorMerging
        )
    }

    /// Returns whether it is the server of another project.
    pub(crate) const fn is_other(self) -> bool {
        matches!(self, Self::Nginx | Self::NginxTuned | Self::User(_))
    }

    /// Returns the command and the configuration, with their variables.
    pub(crate) fn setup(self, users: &[UserServer]) -> Setup {
        const LISTEN: &str = "{tiderace} --listen {address} --http-listen {http} --log-level warn";
        const FLOOR: &str = "{tiderace} load floor --listen {address} --send";
        let with_config = |command: String, config: String| (command, Some(config));
        let (command, config) = match self {
            Self::Tiderace
            | Self::TideraceHttpFlv
            | Self::TideraceCrowded
            | Self::TideraceAsleep => (LISTEN.to_owned(), None),
            Self::TideraceMerging => {
                let config = "[play]\nmerge_ms = 350\n";
                with_config(format!("{LISTEN} --config {{config}}"), config.to_owned())
            }
            Self::Nginx => with_config(nginx_command(), nginx_config("")),
            Self::NginxTuned => {
                with_config(nginx_command(), nginx_config("        chunk_size 60000;\n"))
            }
            Self::WriteFloor => (format!("{FLOOR} write"), None),
            Self::SendfileFloor => (format!("{FLOOR} sendfile"), None),
            Self::WriteFloorMerging => (format!("{FLOOR} write --merge-ms 350"), None),
            Self::SendfileFloorMerging => (format!("{FLOOR} sendfile --merge-ms 350"), None),
            Self::User(index) => (users[index].command.clone(), None),
        };
        Setup { label: self.label(users), command, config }
    }

    /// Returns the words of a command. The command of a user is a line of the shell.
    pub(crate) fn words(self, command: &str) -> Vec<String> {
        match self {
            Self::User(_) => ["sh", "-c", command].map(str::to_owned).to_vec(),
            _ => command.split(' ').map(str::to_owned).collect(),
        }
    }
}

/// Replaces the variables of a command or a configuration.
pub(crate) fn filled(template: &str, address: SocketAddr, folder: &Path) -> String {
    let folder_text = folder.display().to_string();
    let config = folder.join(CONFIG).display().to_string();
    [
        ("{tiderace}", program::path().display().to_string()),
        ("{address}", address.to_string()),
        ("{host}", address.ip().to_string()),
        ("{port}", address.port().to_string()),
        ("{http}", http_of(address).to_string()),
        ("{folder}", folder_text),
        ("{config}", config),
    ]
    .into_iter()
    .fold(template.to_owned(), |text, (name, value)| text.replace(name, &value))
}

fn nginx_command() -> String {
    format!("{NGINX} -p {{folder}} -c {{config}} -e {{folder}}/nginx.log")
}

/// Returns the nginx configuration: one process in the foreground that listens for RTMP only.
/// Everything but `more` has the defaults of nginx-rtmp.
fn nginx_config(more: &str) -> String {
    format!(
        "load_module {NGINX_RTMP};\n\
         daemon off;\n\
         master_process off;\n\
         pid {{folder}}/nginx.pid;\n\
         events {{ worker_connections 16384; }}\n\
         rtmp {{\n\
         \x20   access_log off;\n\
         \x20   server {{\n\
         \x20       listen {{address}};\n\
         {more}\
         \x20       application live {{ live on; }}\n\
         \x20   }}\n\
         }}\n"
    )
}

/// Checks that nginx-rtmp is installed. Installs it if permitted; otherwise returns an error that
/// says what is missing.
pub(crate) fn install_nginx() -> Result<()> {
    let is_there = || [NGINX, NGINX_RTMP].iter().all(|path| Path::new(path).exists());
    let may_install =
        rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists();
    if !is_there() && may_install {
        for arguments in [&["update", "-q"][..], &["install", "-qy", "--no-install-recommends"]] {
            let packages: &[&str] = if arguments[0] == "install" { &NGINX_PACKAGES } else { &[] };
            Command::new("apt-get")
                .args(arguments)
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()?;
        }
    }
    if !is_there() {
        let packages = NGINX_PACKAGES.join(" ");
        return Err(format!(
            "nginx-rtmp not found at {NGINX} and {NGINX_RTMP}: apt-get install {packages}"
        )
        .into());
    }
    Ok(())
}
