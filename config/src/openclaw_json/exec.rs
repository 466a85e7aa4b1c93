//! `tools.exec`, for all agents and for single ones (exec and approvals §5).

use std::collections::BTreeMap;

use approvals::policy::{ExecConfig, ExecLayer};
use approvals::safe_bins::{ProfileSettings, SafeBinSettings};

use super::{OpenclawJsonError, optional};
use crate::setting::Setting;

pub(super) fn exec_config(root: &Setting<'_>) -> Result<ExecConfig, OpenclawJsonError> {
    let mut config = ExecConfig::new(own_exec(root)?.map(|(_, layer)| layer).unwrap_or_default());
    // The ids of openclaw.json do not differ by case alone.
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (id, key, layer) in agents(root)? {
        if let Some(first) = seen.insert(id.trim().to_lowercase(), key.clone()) {
            return Err(OpenclawJsonError::Repeated {
                place: root.place(),
                key,
                first,
            });
        }
        config = config.with_agent(id, layer);
    }
    Ok(config)
}

/// `tools.exec` below the root or an agent.
fn own_exec(owner: &Setting<'_>) -> Result<Option<(String, ExecLayer)>, OpenclawJsonError> {
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
        strict_inline_eval: optional(&exec, "strictInlineEval", Setting::flag)?.unwrap_or(false),
        safe_bins: safe_bins(&exec)?,
    };
    Ok(Some((exec.key, layer)))
}

/// `safeBins`, `safeBinProfiles` and `safeBinTrustedDirs` (exec and approvals §8.5).
fn safe_bins(exec: &Setting<'_>) -> Result<SafeBinSettings, OpenclawJsonError> {
    let mut settings = SafeBinSettings {
        bins: optional(exec, "safeBins", Setting::texts)?,
        trusted_dirs: optional(exec, "safeBinTrustedDirs", Setting::texts)?.unwrap_or_default(),
        ..SafeBinSettings::default()
    };
    if let Some(profiles) = exec.member("safeBinProfiles")? {
        for (name, profile) in profiles.members()? {
            let flags =
                |name| optional(&profile, name, Setting::texts).map(Option::unwrap_or_default);
            let profile = ProfileSettings {
                min_positional: optional(&profile, "minPositional", Setting::count)?,
                max_positional: optional(&profile, "maxPositional", Setting::count)?,
                allowed_value_flags: flags("allowedValueFlags")?,
                denied_flags: flags("deniedFlags")?,
            };
            settings.profiles.insert(name.to_owned(), profile);
        }
    }
    Ok(settings)
}

/// Every agent that has its own `tools.exec`: its id, where that stands, and what it says.
fn agents<'a>(root: &Setting<'a>) -> Result<Vec<(&'a str, String, ExecLayer)>, OpenclawJsonError> {
    let mut found = Vec::new();
    let Some(agents) = root.member("agents")? else {
        return Ok(found);
    };
    if let Some(list) = agents.member("list")? {
        for agent in list.items()? {
            if let Some((key, layer)) = own_exec(&agent)? {
                let Some(id) = agent.member("id")? else {
                    return Err(agent.wrong("an object with an id"));
                };
                found.push((id.text()?, key, layer));
            }
        }
    }
    if let Some(entries) = agents.member("entries")? {
        for (id, agent) in entries.members()? {
            if let Some((key, layer)) = own_exec(&agent)? {
                found.push((id, key, layer));
            }
        }
    }
    Ok(found)
}
