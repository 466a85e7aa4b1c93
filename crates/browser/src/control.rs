//! The profiles of this node, with a browser for each that was used.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

use node_config::BrowserSettings;

use crate::browser::Browser;
use crate::profile::{ProfileError, Profiles};
use crate::proxy::folder::{NoFolder, temporary_folder};
use crate::request::RouteError;

/// Where things are on this machine.
#[derive(Debug, Clone)]
pub struct Places {
    /// The node's state.
    pub state_dir: PathBuf,
    /// Where a folder is for what is passed on and then forgotten: `/tmp`, below which it is
    /// `openclaw`, unless that is somebody else's.
    pub temporary: PathBuf,
}

impl Places {
    /// Where a profile's browser keeps its data.
    #[must_use]
    pub fn user_data_dir(&self, profile: &str) -> PathBuf {
        self.state_dir
            .join("browser")
            .join(profile)
            .join("user-data")
    }

    /// Where screenshots and documents are kept.
    #[must_use]
    pub fn media_dir(&self) -> PathBuf {
        self.state_dir.join("media").join("browser")
    }

    /// Where files come from that a gateway sent to this machine.
    #[must_use]
    pub fn inbound_dir(&self) -> PathBuf {
        self.state_dir.join("media").join("inbound")
    }

    /// The only place that downloads are saved to.
    #[must_use]
    pub fn downloads_dir(&self) -> PathBuf {
        self.temporary.join("downloads")
    }

    /// Where files are kept that pages may be given.
    #[must_use]
    pub fn uploads_dir(&self) -> PathBuf {
        self.temporary.join("uploads")
    }
}

/// What the browser proxy is made of.
#[derive(Debug, Clone)]
pub struct ControlOptions {
    /// What openclaw.json says.
    pub settings: BrowserSettings,
    /// Where things are.
    pub places: Places,
    /// What browsers inherit; never the node's own credentials.
    pub environment: Vec<(OsString, OsString)>,
    /// `OPENCLAW_BROWSER_HEADLESS`, where it says anything.
    pub headless_override: Option<bool>,
}

/// Why there is no browser proxy.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// No place for what is passed on.
    #[error(transparent)]
    Folder(#[from] NoFolder),
}

/// The browsers of this node.
#[derive(Debug)]
pub struct Control {
    options: Rc<ControlOptions>,
    profiles: Profiles,
    browsers: RefCell<BTreeMap<String, Rc<Browser>>>,
}

impl Control {
    /// Nothing is started yet, and only the folder is made for what is passed on.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn new(mut options: ControlOptions) -> Result<Self, ControlError> {
        options.places.temporary = temporary_folder(&options.places.temporary)?;
        Ok(Self {
            profiles: Profiles::resolve(&options.settings)?,
            options: Rc::new(options),
            browsers: RefCell::default(),
        })
    }

    /// What the configuration says.
    #[must_use]
    pub fn settings(&self) -> &BrowserSettings {
        &self.options.settings
    }

    /// Where things are.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.options.places
    }

    /// The profiles.
    #[must_use]
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// The browser of a profile.
    ///
    /// # Errors
    /// 404 with upstream's text.
    pub fn browser(&self, profile: &str) -> Result<Rc<Browser>, RouteError> {
        if let Some(browser) = self.browsers.borrow().get(profile) {
            return Ok(Rc::clone(browser));
        }
        let Some(found) = self.profiles.get(profile) else {
            let names: Vec<&str> = self
                .profiles
                .all()
                .iter()
                .map(|profile| profile.name.as_str())
                .collect();
            return Err(RouteError::not_found(format!(
                "Profile \"{profile}\" not found. Available profiles: {}",
                names.join(", ")
            )));
        };
        let browser = Rc::new(Browser::new(found.clone(), Rc::clone(&self.options)));
        self.browsers
            .borrow_mut()
            .insert(profile.to_owned(), Rc::clone(&browser));
        Ok(browser)
    }

    /// Ends every browser that this node started.
    pub async fn shut_down(&self) {
        let browsers: Vec<Rc<Browser>> = self.browsers.borrow().values().cloned().collect();
        let stopping = browsers.iter().map(|browser| browser.stop());
        futures_util::future::join_all(stopping).await;
    }
}
