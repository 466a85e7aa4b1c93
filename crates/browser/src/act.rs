//! Acts on a page (browser proxy §6).

use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;

/// `POST /act`.
///
/// # Errors
/// [`RouteError`].
pub async fn act(_: &Page, _: &Request) -> Reply {
    Err(RouteError::new(501, "acts are not built yet"))
}
