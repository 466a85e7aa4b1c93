//! A folder with files and programs of its own, for tests.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use approvals::command::CommandLine;
use tempfile::TempDir;

use super::Host;
use crate::environment::BaseEnvironment;

pub(crate) struct Scene {
    _folder: TempDir,
    root: PathBuf,
    environment: BaseEnvironment,
}

impl Scene {
    /// An empty folder whose `bin` is on `PATH` besides the system's programs.
    pub(crate) fn new() -> Self {
        Self::with_variables(&[])
    }

    pub(crate) fn with_variables(variables: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let path = format!("{}/bin:/usr/bin:/bin", root.display());
        let home = root.to_str().unwrap();
        let own = [("PATH", path.as_str()), ("HOME", home)];
        let all = own.iter().chain(variables);
        let environment = BaseEnvironment::new(all.map(|(key, value)| (key.into(), value.into())));
        Self {
            _folder: folder,
            root,
            environment,
        }
    }

    pub(crate) fn host(&self) -> Host<'_> {
        Host::new(&self.environment, &self.root)
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn command_environment(&self) -> crate::environment::CommandEnvironment {
        self.environment
            .with(crate::environment::Overrides::default())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The absolute path of a name in the folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> &Self {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Writes an executable script.
    pub(crate) fn program(&self, name: &str) -> &Self {
        self.write(name, "#!/bin/sh\necho SAFE\n");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.root.join(name), executable).unwrap();
        self
    }

    pub(crate) fn folder(&self, name: &str) -> &Self {
        fs::create_dir_all(self.root.join(name)).unwrap();
        self
    }

    pub(crate) fn link(&self, name: &str, target: &str) -> &Self {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    /// Where a program of the system really is.
    pub(crate) fn real(&self, token: &str) -> String {
        let found = self.host().resolve(token, Some(&self.root));
        found.trusted_path().unwrap().to_str().unwrap().to_owned()
    }
}

/// A command of words that hold no white space.
pub(crate) fn command(line: &str) -> CommandLine {
    CommandLine::new(words(line), None).unwrap()
}

pub(crate) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
