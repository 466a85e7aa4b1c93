//! The names of environment variables that the sanitiser knows: exec and approvals §6 and divergence D10.
//!
//! Every table is sorted and searched by halves. Names are compared upper-cased, as the gateway
//! does, so that `path` cannot do what `PATH` may not.

/// Names that no command ever gets, inherited or not (exec and approvals §6, list E).
///
/// `GIT_ALLOW_PROTOCOL` and `GIT_PROTOCOL_FROM_USER` are on it for overrides; an inherited value is
/// narrowed instead, see [`super::git`].
const BLOCKED: &[&str] = &[
    "ANT_OPTS",
    "BASHOPTS",
    "BASH_ENV",
    "BROWSER",
    "BZR_EDITOR",
    "BZR_PLUGIN_PATH",
    "BZR_SSH",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTDOC",
    "CATALINA_OPTS",
    "CC",
    "CMAKE_CXX_COMPILER",
    "CMAKE_C_COMPILER",
    "CMAKE_TOOLCHAIN_FILE",
    "CONFIG_SHELL",
    "CONFIG_SITE",
    "CORECLR_PROFILER",
    "CPP",
    "CXX",
    "CXXCPP",
    "DOTNET_ADDITIONAL_DEPS",
    "DOTNET_STARTUP_HOOKS",
    "ELIXIR_ERL_OPTIONS",
    "EMACSLOADPATH",
    "ENV",
    "ERL_AFLAGS",
    "ERL_FLAGS",
    "ERL_ZFLAGS",
    "EXINIT",
    "FPATH",
    "GCONV_PATH",
    "GIT_ALLOW_PROTOCOL",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_EDITOR",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_HOOK_PATH",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PROTOCOL_FROM_USER",
    "GIT_SEQUENCE_EDITOR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_NO_VERIFY",
    "GIT_TEMPLATE_DIR",
    "GIT_WORK_TREE",
    "GLIBC_TUNABLES",
    "GRADLE_OPTS",
    "GVIMINIT",
    "HELM_PLUGINS",
    "HGEDITOR",
    "HGMERGE",
    "HGRCPATH",
    "HOSTALIASES",
    "IFS",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "JULIA_EDITOR",
    "KSH_ENV",
    "LUA_INIT",
    "LUA_INIT_5_1",
    "LUA_INIT_5_2",
    "LUA_INIT_5_3",
    "LUA_INIT_5_4",
    "MAKE",
    "MAKEFLAGS",
    "MAVEN_OPTS",
    "MFLAGS",
    "MYVIMRC",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_REDIRECT_WARNINGS",
    "NODE_REPL_EXTERNAL_MODULE",
    "NODE_REPL_HISTORY",
    "NODE_V8_COVERAGE",
    "PACKER_PLUGIN_PATH",
    "PERL5LIB",
    "PERL5OPT",
    "PS4",
    "PYTHONBREAKPOINT",
    "PYTHONHOME",
    "PYTHONPATH",
    "RUBYLIB",
    "RUBYOPT",
    "RUBYSHELL",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "R_ENVIRON",
    "R_ENVIRON_USER",
    "R_PROFILE",
    "R_PROFILE_USER",
    "SBT_OPTS",
    "SHELL",
    "SHELLOPTS",
    "SSLKEYLOGFILE",
    "SUDO_ASKPASS",
    "SVN_EDITOR",
    "SVN_SSH",
    "TCLLIBPATH",
    "VAGRANT_VAGRANTFILE",
    "VIMINIT",
    "_JAVA_OPTIONS",
];

/// Names that a request must not set (exec and approvals §6, list V).
const BLOCKED_OVERRIDES: &[&str] = &[
    "ALL_PROXY",
    "AMQP_URL",
    "ANSIBLE_CALLBACK_PLUGINS",
    "ANSIBLE_COLLECTIONS_PATH",
    "ANSIBLE_CONFIG",
    "ANSIBLE_CONNECTION_PLUGINS",
    "ANSIBLE_FILTER_PLUGINS",
    "ANSIBLE_INVENTORY_PLUGINS",
    "ANSIBLE_LIBRARY",
    "ANSIBLE_LOOKUP_PLUGINS",
    "ANSIBLE_MODULE_UTILS",
    "ANSIBLE_REMOTE_TEMP",
    "ANSIBLE_ROLES_PATH",
    "ANSIBLE_STRATEGY_PLUGINS",
    "AWS_ACCESS_KEY_ID",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_AUTH_LOCATION",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "BUNDLE_GEMFILE",
    "BUN_CONFIG_REGISTRY",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_HOME",
    "CFLAGS",
    "CGO_CFLAGS",
    "CGO_LDFLAGS",
    "CLASSPATH",
    "COMPOSER_HOME",
    "CONDA_DEFAULT_ENV",
    "CONDA_PREFIX",
    "CORECLR_PROFILER_PATH",
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "CURL_CA_BUNDLE",
    "CURL_HOME",
    "C_INCLUDE_PATH",
    "DATABASE_URL",
    "DENO_DIR",
    "DOCKER_CERT_PATH",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "EDITOR",
    "FCEDIT",
    "GEM_HOME",
    "GEM_PATH",
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "GITLAB_TOKEN",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ASKPASS",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PAGER",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_NO_VERIFY",
    "GIT_WORK_TREE",
    "GOENV",
    "GOFLAGS",
    "GONOPROXY",
    "GONOSUMCHECK",
    "GONOSUMDB",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOPATH",
    "GOPRIVATE",
    "GOPROXY",
    "GRADLE_USER_HOME",
    "HELM_HOME",
    "HGRCPATH",
    "HISTFILE",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "KUBECONFIG",
    "LDFLAGS",
    "LESSCLOSE",
    "LESSOPEN",
    "LIBRARY_PATH",
    "LUA_CPATH",
    "LUA_PATH",
    "MAKEFLAGS",
    "MANPAGER",
    "MFLAGS",
    "MONGODB_URI",
    "NODE_AUTH_TOKEN",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "NO_PROXY",
    "NPM_TOKEN",
    "OBJC_INCLUDE_PATH",
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "PAGER",
    "PERL5DB",
    "PERL5DBCMD",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PIP_CONFIG_FILE",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_PYPI_URL",
    "PIP_TRUSTED_HOST",
    "PROMPT_COMMAND",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "REDIS_URL",
    "REQUESTS_CA_BUNDLE",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_DIST_ROOT",
    "RUSTUP_DIST_SERVER",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTUP_UPDATE_ROOT",
    "R_LIBS_USER",
    "SSH_ASKPASS",
    "SSH_AUTH_SOCK",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SUDO_EDITOR",
    "SYSTEMROOT",
    "TF_CLI_CONFIG_FILE",
    "TF_PLUGIN_CACHE_DIR",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_PYTHON",
    "VIRTUAL_ENV",
    "VISUAL",
    "WGETRC",
    "WINDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "YARN_RC_FILENAME",
    "ZDOTDIR",
];

/// Names of [`BLOCKED_OVERRIDES`] that keep the value they have in the node's own environment
/// (exec and approvals §6, list K).
const KEPT_WHEN_INHERITED: &[&str] = &[
    "ALL_PROXY",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_AUTH_LOCATION",
    "CURL_CA_BUNDLE",
    "DOCKER_CERT_PATH",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "GIT_PAGER",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GRADLE_USER_HOME",
    "HISTFILE",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "KUBECONFIG",
    "MANPAGER",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "NO_PROXY",
    "PAGER",
    "REQUESTS_CA_BUNDLE",
    "RUSTUP_DIST_ROOT",
    "RUSTUP_DIST_SERVER",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTUP_UPDATE_ROOT",
    "SSH_AUTH_SOCK",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SYSTEMROOT",
    "WINDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "ZDOTDIR",
];

/// Beginnings of names that no command ever gets (exec and approvals §6): loader settings and
/// exported shell functions.
const BLOCKED_PREFIXES: &[&str] = &["BASH_FUNC_", "DYLD_", "LD_"];

/// Beginnings of names that a request must not set (exec and approvals §6).
const BLOCKED_OVERRIDE_PREFIXES: &[&str] =
    &["CARGO_REGISTRIES_", "GIT_CONFIG_", "NPM_CONFIG_", "TF_VAR_"];

/// What belongs to the node and to its service manager alone (divergence D10), and the folder that
/// a service manager puts the node's own secrets into (divergence D20).
const OWN: &[&str] = &[
    "CF_ACCESS_CLIENT_ID",
    "CF_ACCESS_CLIENT_SECRET",
    "CREDENTIALS_DIRECTORY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "OPENCLAW_GATEWAY_PASSWORD",
    "OPENCLAW_GATEWAY_TOKEN",
];

/// Beginnings of further names of [`OWN`]'s kind (divergence D10).
const OWN_PREFIXES: &[&str] = &["LISTEN_", "WATCHDOG_"];

/// What a request may still set when the command is a shell wrapper (exec and approvals §6), with
/// everything that begins with [`LOCALE_PREFIX`].
const SHELL_OVERRIDES: &[&str] = &[
    "COLORTERM",
    "FORCE_COLOR",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "NO_COLOR",
    "OPENCLAW_SUBAGENT_EXEC",
    "TERM",
];

const LOCALE_PREFIX: &str = "LC_";

/// Names whose value may be overridden, but only to switch paging off (exec and approvals §6).
const PAGERS: &[&str] = &["GIT_PAGER", "PAGER"];

/// Whether the sanitiser withholds the node's own value of `name` from commands.
///
/// `name` is upper-cased.
pub(super) fn is_withheld(name: &str) -> bool {
    let overridable_only = lists(BLOCKED_OVERRIDES, name) && !lists(KEPT_WHEN_INHERITED, name);
    lists(BLOCKED, name)
        || overridable_only
        || begins(BLOCKED_PREFIXES, name)
        || lists(OWN, name)
        || begins(OWN_PREFIXES, name)
}

/// Whether a request that sets `name` is refused.
///
/// `name` is upper-cased.
pub(super) fn is_blocked_override(name: &str) -> bool {
    name == "PATH"
        || lists(BLOCKED, name)
        || lists(BLOCKED_OVERRIDES, name)
        || begins(BLOCKED_PREFIXES, name)
        || begins(BLOCKED_OVERRIDE_PREFIXES, name)
        || is_cargo_target_program(name)
}

/// Whether `name`, which is upper-cased, chooses a pager.
pub(super) fn is_pager(name: &str) -> bool {
    lists(PAGERS, name)
}

/// Whether an override of `name`, which is upper-cased, survives in front of a shell wrapper.
pub(super) fn is_shell_override(name: &str) -> bool {
    lists(SHELL_OVERRIDES, name) || name.starts_with(LOCALE_PREFIX) || is_pager(name)
}

/// `CARGO_TARGET_<triple>_LINKER` and `…_RUNNER` (exec and approvals §6).
fn is_cargo_target_program(name: &str) -> bool {
    let triple = name.strip_prefix("CARGO_TARGET_").and_then(|rest| {
        rest.strip_suffix("_LINKER")
            .or_else(|| rest.strip_suffix("_RUNNER"))
    });
    triple.is_some_and(|triple| {
        let word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        !triple.is_empty() && triple.bytes().all(word)
    })
}

fn lists(table: &[&str], name: &str) -> bool {
    table.binary_search(&name).is_ok()
}

fn begins(prefixes: &[&str], name: &str) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every name of every list, once.
    pub(in crate::environment) fn every_name() -> impl Iterator<Item = String> {
        let lists = [BLOCKED, BLOCKED_OVERRIDES, OWN, SHELL_OVERRIDES, PAGERS];
        let mut names: Vec<&str> = lists.concat();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(str::to_owned)
    }

    /// Inherited, as the lists read rather than as they are searched: not on E, not on V unless
    /// also on K, not our own.
    pub(in crate::environment) fn is_kept(name: &str) -> bool {
        let name = &name;
        !BLOCKED.contains(name)
            && !OWN.contains(name)
            && (!BLOCKED_OVERRIDES.contains(name) || KEPT_WHEN_INHERITED.contains(name))
    }

    /// Refused as an override: on E or V.
    pub(in crate::environment) fn is_refused(name: &str) -> bool {
        BLOCKED.contains(&name) || BLOCKED_OVERRIDES.contains(&name)
    }

    #[test]
    fn lists_are_sorted_and_have_nothing_twice() {
        let lists = [
            BLOCKED,
            BLOCKED_PREFIXES,
            BLOCKED_OVERRIDES,
            BLOCKED_OVERRIDE_PREFIXES,
            KEPT_WHEN_INHERITED,
            OWN,
            OWN_PREFIXES,
            SHELL_OVERRIDES,
            PAGERS,
        ];
        for list in lists {
            assert!(list.is_sorted_by(|one, next| one < next), "{list:?}");
            assert!(
                list.iter().all(|name| *name == name.to_ascii_uppercase()),
                "{list:?}"
            );
        }
    }

    #[test]
    fn lists_are_complete() {
        // The counts of upstream 2026.9.6's lists E, V and K (exec and approvals §6).
        assert_eq!(BLOCKED.len(), 110);
        assert_eq!(BLOCKED_OVERRIDES.len(), 156);
        assert_eq!(KEPT_WHEN_INHERITED.len(), 42);
        assert!(
            KEPT_WHEN_INHERITED
                .iter()
                .all(|name| lists(BLOCKED_OVERRIDES, name))
        );
        assert!(!KEPT_WHEN_INHERITED.iter().any(|name| lists(BLOCKED, name)));
    }
}
