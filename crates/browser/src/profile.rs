//! The browser profiles of this node (browser proxy §3.1).

use std::path::PathBuf;

use node_config::{BrowserProfileSettings, BrowserSettings};

use crate::endpoint::{Endpoint, UrlError};

/// The managed profile that is always there.
pub const MANAGED: &str = "openclaw";
/// The built-in profile for the user's own running browser.
const USER: &str = "user";
/// The built-in profile for the browser extension.
const EXTENSION: &str = "chrome";
/// The colour of a profile that has none of its own.
const DEFAULT_COLOR: &str = "#FF4500";
/// From the gateway's port to the first debugging port: the control port is 2 above, the range of
/// debugging ports begins 9 above that.
const FIRST_CDP_PORT_OFFSET: u16 = 11;
/// From the gateway's port to that of the extension's relay, which is not offered here.
const RELAY_PORT_OFFSET: u16 = 10;
/// How many debugging ports there are in the range.
const CDP_PORTS: u16 = 91;

/// How a profile's browser is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Over its debugging port, by this node.
    Openclaw,
    /// The user's own browser, by a helper that this node does not have.
    ExistingSession,
    /// A browser extension, by a relay that this node does not have.
    Extension,
}

impl Driver {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Openclaw => "openclaw",
            Self::ExistingSession => "existing-session",
            Self::Extension => "extension",
        }
    }

    /// What carries the commands, as status tells it.
    #[must_use]
    pub const fn transport(self) -> &'static str {
        match self {
            Self::Openclaw => "cdp",
            Self::ExistingSession => "chrome-mcp",
            Self::Extension => "extension",
        }
    }

    fn parse(name: Option<&str>) -> Self {
        match name {
            Some("existing-session") => Self::ExistingSession,
            Some("extension") => Self::Extension,
            Some(_) | None => Self::Openclaw,
        }
    }
}

/// A profile that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cdpUrl of browser profile \"{profile}\" {error}")]
pub struct ProfileError {
    profile: String,
    error: UrlError,
}

/// One profile, with everything that the configuration says about it.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// How it is driven.
    pub driver: Driver,
    /// Its debugging endpoint, for those that have one.
    pub endpoint: Option<Endpoint>,
    /// Never start a browser for it: it is remote, somebody else starts it, or its driver is one that
    /// this node does not have.
    pub attach_only: bool,
    /// Its colour.
    pub color: String,
    /// Whether its browser has no window, where the profile says so.
    pub headless: Option<bool>,
    /// Its own browser.
    pub executable_path: Option<PathBuf>,
    /// Where its browser keeps its data, if not in the usual place.
    pub user_data_dir: Option<PathBuf>,
}

impl Profile {
    /// Whether its browser runs on another machine.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.endpoint
            .as_ref()
            .is_some_and(|endpoint| !endpoint.is_loopback())
    }

    /// Whether this node starts and stops its browser.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        !self.attach_only
    }
}

/// Every profile, the built-in ones first, and the name of the default.
#[derive(Debug, Clone)]
pub struct Profiles {
    all: Vec<Profile>,
    default: String,
}

impl Profiles {
    /// Resolves the settings.
    ///
    /// # Errors
    /// A CDP URL that is none.
    pub fn resolve(settings: &BrowserSettings) -> Result<Self, ProfileError> {
        let first_port = settings.gateway_port.saturating_add(FIRST_CDP_PORT_OFFSET);
        let mut entries = settings.profiles.clone();
        let mut managed = entries.remove(MANAGED).unwrap_or_default();
        if managed.cdp_url.is_none() {
            managed.cdp_url.clone_from(&settings.cdp_url);
        }
        let taken: Vec<u16> = entries
            .values()
            .filter_map(|entry| entry.cdp_port)
            .collect();
        let mut free = (first_port..first_port.saturating_add(CDP_PORTS))
            .filter(|port| *port != first_port && !taken.contains(port));
        let mut all = vec![one(MANAGED, &managed, Some(first_port), settings)?];
        for name in [USER, EXTENSION] {
            let driver = if name == USER {
                "existing-session"
            } else {
                "extension"
            };
            let mut entry = entries.remove(name).unwrap_or_default();
            entry.driver.get_or_insert_with(|| driver.to_owned());
            all.push(one(name, &entry, None, settings)?);
        }
        for (name, entry) in &entries {
            all.push(one(name, entry, free.next(), settings)?);
        }
        Ok(Self {
            all,
            default: settings
                .default_profile
                .clone()
                .unwrap_or_else(|| MANAGED.to_owned()),
        })
    }

    /// All profiles.
    #[must_use]
    pub fn all(&self) -> &[Profile] {
        &self.all
    }

    /// The name of the one that counts where none is named.
    #[must_use]
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// The profile of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.all.iter().find(|profile| profile.name == name)
    }
}

fn one(
    name: &str,
    entry: &BrowserProfileSettings,
    port: Option<u16>,
    settings: &BrowserSettings,
) -> Result<Profile, ProfileError> {
    let driver = Driver::parse(entry.driver.as_deref());
    let endpoint = match (driver, &entry.cdp_url, entry.cdp_port.or(port)) {
        (Driver::Openclaw, Some(url), _) => {
            let parsed = Endpoint::parse(url);
            Some(parsed.map_err(|error| ProfileError {
                profile: name.to_owned(),
                error,
            })?)
        }
        (Driver::Openclaw, None, Some(port)) => Some(Endpoint::local(port)),
        (Driver::Extension, ..) => Some(Endpoint::local(
            settings.gateway_port.saturating_add(RELAY_PORT_OFFSET),
        )),
        (Driver::Openclaw, None, None) | (Driver::ExistingSession, ..) => None,
    };
    let is_remote = endpoint
        .as_ref()
        .is_some_and(|endpoint| !endpoint.is_loopback());
    Ok(Profile {
        name: name.to_owned(),
        driver,
        attach_only: is_remote
            || driver != Driver::Openclaw
            || entry.attach_only.unwrap_or(settings.attach_only),
        endpoint,
        color: entry
            .color
            .clone()
            .or_else(|| settings.color.clone())
            .unwrap_or_else(|| DEFAULT_COLOR.to_owned()),
        headless: entry.headless,
        executable_path: entry
            .executable_path
            .clone()
            .or_else(|| settings.executable_path.clone()),
        user_data_dir: entry.user_data_dir.clone(),
    })
}
