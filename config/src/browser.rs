//! What openclaw.json says about the browser proxy: `browser.*`, `nodeHost.browserProxy.*` and the
//! gateway's port, from which the browser's debugging port follows (browser proxy §3).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::OpenclawJsonError;
use crate::endpoint::DEFAULT_PORT;
use crate::setting::Setting;

/// How long a browser may take to start, unless the file says otherwise (browser proxy §3.2).
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a started browser's WebSocket may take, unless the file says otherwise.
const CDP_READY_TIMEOUT: Duration = Duration::from_secs(8);

/// The browser proxy's settings; the default is what an empty file means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserSettings {
    /// `browser.enabled`.
    pub enabled: bool,
    /// `nodeHost.browserProxy.enabled`.
    pub proxy_enabled: bool,
    /// `nodeHost.browserProxy.allowProfiles`, trimmed; empty means that every profile is allowed.
    pub allow_profiles: Vec<String>,
    /// `browser.evaluateEnabled`.
    pub evaluate_enabled: bool,
    /// `browser.noSandbox`.
    pub no_sandbox: bool,
    /// `browser.headless`, where it says anything.
    pub headless: Option<bool>,
    /// `browser.attachOnly`: never start a browser.
    pub attach_only: bool,
    /// `browser.executablePath`.
    pub executable_path: Option<PathBuf>,
    /// `browser.cdpUrl`: the default profile's endpoint.
    pub cdp_url: Option<String>,
    /// `browser.defaultProfile`.
    pub default_profile: Option<String>,
    /// `browser.color`.
    pub color: Option<String>,
    /// `browser.extraArgs`.
    pub extra_args: Vec<String>,
    /// `browser.localLaunchTimeoutMs`: until a browser that is started listens.
    pub launch_timeout: Duration,
    /// `browser.localCdpReadyTimeoutMs`: from then until it can be driven.
    pub cdp_ready_timeout: Duration,
    /// `browser.ssrfPolicy.dangerouslyAllowPrivateNetwork`, or its old name `allowPrivateNetwork`.
    pub allow_private_network: Option<bool>,
    /// `browser.ssrfPolicy.allowedHostnames`.
    pub allowed_hostnames: Vec<String>,
    /// Whether `browser.snapshotDefaults.mode` is `efficient`.
    pub efficient_snapshots: bool,
    /// `browser.profiles`.
    pub profiles: BTreeMap<String, BrowserProfileSettings>,
    /// `gateway.port`; the browser's debugging ports follow from it.
    pub gateway_port: u16,
}

impl Default for BrowserSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            proxy_enabled: true,
            allow_profiles: Vec::new(),
            evaluate_enabled: true,
            no_sandbox: false,
            headless: None,
            attach_only: false,
            executable_path: None,
            cdp_url: None,
            default_profile: None,
            color: None,
            extra_args: Vec::new(),
            launch_timeout: LAUNCH_TIMEOUT,
            cdp_ready_timeout: CDP_READY_TIMEOUT,
            allow_private_network: None,
            allowed_hostnames: Vec::new(),
            efficient_snapshots: false,
            profiles: BTreeMap::new(),
            gateway_port: DEFAULT_PORT,
        }
    }
}

/// One entry of `browser.profiles`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrowserProfileSettings {
    /// `cdpPort`.
    pub cdp_port: Option<u16>,
    /// `cdpUrl`.
    pub cdp_url: Option<String>,
    /// `driver`, as written.
    pub driver: Option<String>,
    /// `headless`.
    pub headless: Option<bool>,
    /// `executablePath`.
    pub executable_path: Option<PathBuf>,
    /// `attachOnly`.
    pub attach_only: Option<bool>,
    /// `color`.
    pub color: Option<String>,
    /// `userDataDir`.
    pub user_data_dir: Option<PathBuf>,
}

impl BrowserSettings {
    /// Whether this node offers its browser at all.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.enabled && self.proxy_enabled
    }

    pub(crate) fn read(root: &Setting<'_>, gateway_port: u16) -> Result<Self, OpenclawJsonError> {
        let mut settings = Self {
            gateway_port,
            ..Self::default()
        };
        if let Some(proxy) = member(root.member("nodeHost")?, "browserProxy")? {
            settings.proxy_enabled = proxy.optional("enabled", Setting::flag)?.unwrap_or(true);
            let names = proxy.optional("allowProfiles", Setting::texts)?;
            settings.allow_profiles = names
                .iter()
                .flatten()
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect();
        }
        let Some(browser) = root.member("browser")? else {
            return Ok(settings);
        };
        settings.enabled = browser.optional("enabled", Setting::flag)?.unwrap_or(true);
        settings.evaluate_enabled = browser
            .optional("evaluateEnabled", Setting::flag)?
            .unwrap_or(true);
        settings.no_sandbox = browser
            .optional("noSandbox", Setting::flag)?
            .unwrap_or(false);
        settings.headless = browser.optional("headless", Setting::flag)?;
        settings.attach_only = browser
            .optional("attachOnly", Setting::flag)?
            .unwrap_or(false);
        settings.executable_path = text(&browser, "executablePath")?.map(PathBuf::from);
        settings.cdp_url = text(&browser, "cdpUrl")?;
        settings.default_profile = text(&browser, "defaultProfile")?;
        settings.color = text(&browser, "color")?;
        settings.extra_args = browser
            .optional("extraArgs", Setting::texts)?
            .unwrap_or_default();
        settings.launch_timeout = browser
            .optional("localLaunchTimeoutMs", Setting::timeout)?
            .unwrap_or(LAUNCH_TIMEOUT);
        settings.cdp_ready_timeout = browser
            .optional("localCdpReadyTimeoutMs", Setting::timeout)?
            .unwrap_or(CDP_READY_TIMEOUT);
        if let Some(policy) = browser.member("ssrfPolicy")? {
            settings.allow_private_network =
                match policy.optional("dangerouslyAllowPrivateNetwork", Setting::flag)? {
                    Some(allowed) => Some(allowed),
                    None => policy.optional("allowPrivateNetwork", Setting::flag)?,
                };
            settings.allowed_hostnames = policy
                .optional("allowedHostnames", Setting::texts)?
                .unwrap_or_default();
        }
        if let Some(defaults) = browser.member("snapshotDefaults")? {
            settings.efficient_snapshots = text(&defaults, "mode")?.as_deref() == Some("efficient");
        }
        if let Some(profiles) = browser.member("profiles")? {
            for (name, profile) in profiles.members()? {
                settings
                    .profiles
                    .insert(name.to_owned(), BrowserProfileSettings::read(&profile)?);
            }
        }
        Ok(settings)
    }
}

impl BrowserProfileSettings {
    fn read(profile: &Setting<'_>) -> Result<Self, OpenclawJsonError> {
        Ok(Self {
            cdp_port: profile.optional("cdpPort", port)?,
            cdp_url: text(profile, "cdpUrl")?,
            driver: text(profile, "driver")?,
            headless: profile.optional("headless", Setting::flag)?,
            executable_path: text(profile, "executablePath")?.map(PathBuf::from),
            attach_only: profile.optional("attachOnly", Setting::flag)?,
            color: text(profile, "color")?,
            user_data_dir: text(profile, "userDataDir")?.map(PathBuf::from),
        })
    }
}

fn member<'a>(
    owner: Option<Setting<'a>>,
    name: &str,
) -> Result<Option<Setting<'a>>, OpenclawJsonError> {
    owner.map_or(Ok(None), |owner| owner.member(name))
}

/// A text without surrounding white space; a blank one says nothing.
fn text(owner: &Setting<'_>, name: &str) -> Result<Option<String>, OpenclawJsonError> {
    let Some(value) = owner.member(name)? else {
        return Ok(None);
    };
    let text = value.text()?.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn port(value: &Setting<'_>) -> Result<u16, OpenclawJsonError> {
    let port = value.between(1..=u16::MAX.into(), "a port from 1 to 65535")?;
    u16::try_from(port).map_err(|_| value.wrong("a port from 1 to 65535"))
}
