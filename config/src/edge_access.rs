//! What a Cloudflare Access edge in front of a gateway wants to see (wire protocol §1.6).

use secrecy::SecretString;

use crate::{Environment, PlannedEndpoint};

/// The variable of the token's name.
pub(crate) const ID_VARIABLE: &str = "CF_ACCESS_CLIENT_ID";
/// The variable of its secret.
pub(crate) const SECRET_VARIABLE: &str = "CF_ACCESS_CLIENT_SECRET";

/// A service token, sent as two headers of the upgrade request.
#[derive(Debug, Clone)]
pub struct EdgeAccess {
    /// `CF-Access-Client-Id`.
    pub client_id: SecretString,
    /// `CF-Access-Client-Secret`.
    pub client_secret: SecretString,
}

/// Why a service token cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EdgeAccessError {
    /// One half is missing.
    #[error("CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET must be configured together")]
    Half,
    /// It must not cross a network in the clear.
    #[error(
        "Cloudflare Access credentials require a TLS Gateway connection; use --tls, or unset CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET"
    )]
    Plain,
    /// A value cannot stand in a header.
    #[error(
        "CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET may contain only visible ASCII characters"
    )]
    Unprintable,
}

impl EdgeAccess {
    /// Takes both from the environment; `None` if neither is set.
    ///
    /// # Errors
    /// [`EdgeAccessError`].
    pub fn for_endpoint(
        endpoint: &PlannedEndpoint,
        environment: &Environment,
    ) -> Result<Option<Self>, EdgeAccessError> {
        let (client_id, client_secret) = match (
            environment.text(ID_VARIABLE),
            environment.text(SECRET_VARIABLE),
        ) {
            (None, None) => return Ok(None),
            (Some(id), Some(secret)) => (id, secret),
            (Some(_), None) | (None, Some(_)) => return Err(EdgeAccessError::Half),
        };
        if !endpoint.tls() {
            return Err(EdgeAccessError::Plain);
        }
        let is_printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_printable(client_id) || !is_printable(client_secret) {
            return Err(EdgeAccessError::Unprintable);
        }
        Ok(Some(Self {
            client_id: SecretString::from(client_id),
            client_secret: SecretString::from(client_secret),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EndpointFlags;

    #[test]
    fn both_or_neither_and_only_with_tls() {
        use EdgeAccessError::{Half, Plain, Unprintable};
        type Variables = &'static [(&'static str, &'static str)];
        let cases: [(Variables, bool, Result<bool, EdgeAccessError>); 7] = [
            (&[], false, Ok(false)),
            (&[], true, Ok(false)),
            (&[(ID_VARIABLE, "i")], true, Err(Half)),
            (&[(SECRET_VARIABLE, "s")], true, Err(Half)),
            (
                &[(ID_VARIABLE, "i"), (SECRET_VARIABLE, "s")],
                true,
                Ok(true),
            ),
            (
                &[(ID_VARIABLE, "i"), (SECRET_VARIABLE, "s")],
                false,
                Err(Plain),
            ),
            (
                &[(ID_VARIABLE, "i\nx"), (SECRET_VARIABLE, "s")],
                true,
                Err(Unprintable),
            ),
        ];
        for (variables, tls, expected) in cases {
            let flags = EndpointFlags {
                tls: Some(tls),
                ..EndpointFlags::default()
            };
            let endpoint = PlannedEndpoint::plan(&flags, None).unwrap();
            let environment = variables.iter().copied().collect();
            let access = EdgeAccess::for_endpoint(&endpoint, &environment);
            assert_eq!(
                access.map(|access| access.is_some()),
                expected,
                "{variables:?}"
            );
        }
    }
}
