//! The servers that are measured, and how each is started.
//!
//! Owns their command lines and configurations, and the packages they need.

use std::ffi::os_str::Display;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::support::program;

/// A server with a particular setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Default settings.
    Tiderace,
    /// With a merge window.
    TideraceMerging,
    /// Default settings, with many other idle sessions.
    TideraceCrowded,
    /// Default settings, with idle sessions only.
    TideraceAsleep,
    Nginx,
    WriteFloor,
    SendfileFloor,
}

/// Returns the path of the program under test, which is also the load generator.
pub(crate) fn tiderace() -> Display<'static> {
    program::path().display()
}

const NGINX: &str = "/usr/sbin/nginx";
const NGINX_RTMP: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
const NGINX_PACKAGES: [&str; 2] = ["nginx", "libnginx-mod-rtmp"];

impl Peer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tiderace => "Tiderace",
            Self::TideraceMerging => "Tiderace with merge_ms = 350",
            Self::TideraceCrowded => "Tiderace with 10,000 sleeping sessions",
            Self::TideraceAsleep => "a sleeping session",
            Self::Nginx => "nginx-rtmp",
            Self::WriteFloor => "write floor",
            Self::SendfileFloor => "sendfile floor",
        }
    }

    /// Returns whether it relays length-prefixed frames instead of RTMP.
    pub(crate) const fn is_floor(self) -> bool {
        matches!(self, Self::WriteFloor | Self::SendfileFloor)
    }

    /// Returns the command that serves `address` until it is killed. Its files go to `folder`.
    pub(crate) fn command(self, address: SocketAddr, folder: &Path) -> Result<Vec<String>> {
        let tiderace = tiderace();
        let words = match self {
            Self::Tiderace | Self::TideraceCrowded | Self::TideraceAsleep => {
                format!("{tiderace} --listen {address} --log-level warn")
            }
            Self::TideraceMerging => {
                let config = folder.join("merging.toml");
                fs::write(&config, "[play]\nmerge_ms = 350\n")?;
                let config = config.display();
                format!("{tiderace} --config {config} --listen {address} --log-level warn")
            }
            Self::Nginx => {
                let config = folder.join("nginx.conf");
                fs::write(&config, nginx_config(address, folder))?;
                let (folder, config) = (folder.display(), config.display());
                format!("{NGINX} -p {folder} -c {config} -e {folder}/nginx.log")
            }
            Self::WriteFloor => format!("{tiderace} load floor --listen {address} --send write"),
            Self::SendfileFloor => {
                format!("{tiderace} load floor --listen {address} --send sendfile")
            }
        };
        Ok(words.split(' ').map(str::to_owned).collect())
    }
}

/// Returns the nginx configuration: one process in the foreground that listens for RTMP only.
/// Everything else has the defaults of nginx-rtmp.
fn nginx_config(address: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "load_module {NGINX_RTMP};\n\
         daemon off;\n\
         master_process off;\n\
         pid {folder}/nginx.pid;\n\
         events {{ worker_connections 16384; }}\n\
         rtmp {{\n\
         \x20   access_log off;\n\
         \x20   server {{\n\
         \x20       listen {address};\n\
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
