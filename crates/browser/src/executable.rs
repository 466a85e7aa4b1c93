//! Which browser there is on this machine (browser proxy §3.2).

use std::path::{Path, PathBuf};

use exec::search::is_executable_file;

/// A browser that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// What kind it is.
    pub kind: Kind,
    /// The file.
    pub path: PathBuf,
}

/// What kind of browser, as status and profiles name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Google Chrome.
    Chrome,
    /// Brave.
    Brave,
    /// Microsoft Edge.
    Edge,
    /// Chromium.
    Chromium,
    /// One that the configuration names.
    Custom,
}

impl Kind {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chrome => "chrome",
            Self::Brave => "brave",
            Self::Edge => "edge",
            Self::Chromium => "chromium",
            Self::Custom => "custom",
        }
    }
}

/// There is none. Upstream's words, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoBrowser {
    /// Nothing was found.
    #[error(
        "No supported browser found (Chrome/Brave/Edge/Chromium on macOS, Linux, or Windows). \
         Install one on the node, or set browser.executablePath."
    )]
    NotFound,
    /// What the configuration names is no executable file.
    #[error("browser.executablePath not found: {path}", path = .0.display())]
    NotExecutable(PathBuf),
}

#[cfg(target_os = "linux")]
const CANDIDATES: &[(Kind, &str)] = &[
    (Kind::Chrome, "/usr/bin/google-chrome"),
    (Kind::Chrome, "/usr/bin/google-chrome-stable"),
    (Kind::Chrome, "/opt/google/chrome/chrome"),
    (Kind::Brave, "/usr/bin/brave-browser"),
    (Kind::Brave, "/usr/bin/brave-browser-stable"),
    (Kind::Brave, "/usr/bin/brave"),
    (Kind::Brave, "/snap/bin/brave"),
    (Kind::Edge, "/usr/bin/microsoft-edge"),
    (Kind::Edge, "/usr/bin/microsoft-edge-stable"),
    (Kind::Chromium, "/usr/bin/chromium"),
    (Kind::Chromium, "/usr/bin/chromium-browser"),
    (Kind::Chromium, "/snap/bin/chromium"),
];

#[cfg(not(target_os = "linux"))]
const CANDIDATES: &[(Kind, &str)] = &[
    (
        Kind::Chrome,
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    ),
    (
        Kind::Brave,
        "/Applications/Brave Browser.app/Contents/MacOS/Brave Browser",
    ),
    (
        Kind::Edge,
        "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    ),
    (
        Kind::Chromium,
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
    ),
];

/// Finds the browser: the configured one, or the first that is installed.
///
/// # Errors
/// [`NoBrowser`].
pub fn find(configured: Option<&Path>) -> Result<Executable, NoBrowser> {
    if let Some(path) = configured {
        if !is_executable_file(path) {
            return Err(NoBrowser::NotExecutable(path.to_owned()));
        }
        return Ok(Executable {
            kind: Kind::Custom,
            path: path.to_owned(),
        });
    }
    CANDIDATES
        .iter()
        .find(|(_, path)| is_executable_file(Path::new(path)))
        .map(|(kind, path)| Executable {
            kind: *kind,
            path: PathBuf::from(path),
        })
        .ok_or(NoBrowser::NotFound)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_an_executable_file_is_a_configured_browser() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("browser");
        fs::write(&file, "").unwrap();
        for path in [dir.path(), &file, Path::new("/nonexistent")] {
            assert_eq!(
                find(Some(path)),
                Err(NoBrowser::NotExecutable(path.to_owned()))
            );
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
        let found = find(Some(&file)).unwrap();
        assert_eq!((found.kind.name(), found.path), ("custom", file));
    }
}
