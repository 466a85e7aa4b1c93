//! `tools.exec`, for all agents and for single ones (exec and approvals §5).

use std::collections::BTreeMap;

use approvals::policy::{ExecConfig, ExecLayer};
use approvals::safe_bins::{ProfileSettings, SafeBinSettings};

use super::OpenclawJsonError;
use crate::setting::Setting;

pub(super) fn exec_config(root: &Setting<'_>) -> Result<ExecConfig, OpenclawJsonError> {
    let mut config = ExecConfig::new(own_exec(root)?.map(|(_, layer)| layer).unwrap_or_default());
    // The ids of openclaw.json do not differ by case alone.
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (id, exec, layer) in agents(root)? {
        if let Some(first) = seen.insert(id.trim().to_lowercase(), exec.key.clone()) {
            return Err(OpenclawJsonError::Repeated {
                place: exec.place(),
                key: exec.key,
                first,
            });
        }
        config = config.with_agent(id, layer);
    }
    Ok(config)
}

/// `tools.exec` below the root or an agent, and what it says.
fn own_exec<'a>(
    owner: &Setting<'a>,
) -> Result<Option<(Setting<'a>, ExecLayer)>, OpenclawJsonError> {
    let Some(tools) = owner.member("tools")? else {
        return Ok(None);
    };
    let Some(exec) = tools.member("exec")? else {
        return Ok(None);
    };
    let layer = ExecLayer {
        security: exec.word("security")?,
        ask: exec.word("ask")?,
        mode: exec.word("mode")?,
        strict_inline_eval: exec
            .optional("strictInlineEval", Setting::flag)?
            .unwrap_or(false),
        safe_bins: safe_bins(&exec)?,
    };
    Ok(Some((exec, layer)))
}

/// `safeBins`, `safeBinProfiles` and `safeBinTrustedDirs` (exec and approvals §8.5).
fn safe_bins(exec: &Setting<'_>) -> Result<SafeBinSettings, OpenclawJsonError> {
    let mut settings = SafeBinSettings {
        bins: exec.optional("safeBins", Setting::texts)?,
        trusted_dirs: exec
            .optional("safeBinTrustedDirs", Setting::texts)?
            .unwrap_or_default(),
        ..SafeBinSettings::default()
    };
    if let Some(profiles) = exec.member("safeBinProfiles")? {
        for (name, profile) in profiles.members()? {
            let flags = |name| {
                profile
                    .optional(name, Setting::texts)
                    .map(Option::unwrap_or_default)
            };
            let profile = ProfileSettings {
                min_positional: profile.optional("minPositional", Setting::count)?,
                max_positional: profile.optional("maxPositional", Setting::count)?,
                allowed_value_flags: flags("allowedValueFlags")?,
                denied_flags: flags("deniedFlags")?,
            };
            settings.profiles.insert(name.to_owned(), profile);
        }
    }
    Ok(settings)
}

/// An agent's id, its `tools.exec`, and what that says.
type AgentExec<'a> = (&'a str, Setting<'a>, ExecLayer);

/// Every agent that has its own `tools.exec`.
fn agents<'a>(root: &Setting<'a>) -> Result<Vec<AgentExec<'a>>, OpenclawJsonError> {
    let mut found = Vec::new();
    let Some(agents) = root.member("agents")? else {
        return Ok(found);
    };
    if let Some(list) = agents.member("list")? {
        for agent in list.items()? {
            if let Some((exec, layer)) = own_exec(&agent)? {
                let Some(id) = agent.member("id")? else {
                    return Err(agent.wrong("an object with an id"));
                };
                found.push((id.text()?, exec, layer));
            }
        }
    }
    if let Some(entries) = agents.member("entries")? {
        for (id, agent) in entries.members()? {
            if let Some((exec, layer)) = own_exec(&agent)? {
                found.push((id, exec, layer));
            }
        }
    }
    Ok(found)
}
