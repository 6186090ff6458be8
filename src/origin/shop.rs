//! A Magento web root: files from the disk, scripts from PHP-FPM, as Magento's nginx configuration
//! shares them out.

use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::fastcgi;
use super::files::{FileCounts, Files, Served};
use super::web_root::{Handler, Route, SafePath, WebRoot};
use super::{OriginError, OriginRequest, OriginResponse, Provenance};
use crate::body::{Body, Spooled};
use crate::clock::Clock;
use crate::fields::Fields;
use crate::settings::Settings;

/// Shares requests out between the disk and PHP.
pub struct Shop {
    client: fastcgi::Client,
    routes: WebRoot,
    files: Files,
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shop").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Shop {
    /// The web root of `origin.root`, with its scripts run by `client`.
    ///
    /// # Errors
    /// [`OriginError::File`] where the root cannot be opened or there are no threads for files.
    pub fn new(
        settings: &Settings,
        client: fastcgi::Client,
        clock: &Clock,
    ) -> Result<Self, OriginError> {
        let origin = &settings.origin;
        let (root, links): (PathBuf, _) = (origin.root.clone(), origin.links.clone());
        let files = Files::new(&settings.files, root, links, clock.clone())?;
        Ok(Self { client, routes: WebRoot::new(origin), files })
    }

    /// The connection to PHP-FPM.
    pub fn client(&self) -> &fastcgi::Client {
        &self.client
    }

    /// What stood in the way of files.
    pub fn file_counts(&self) -> FileCounts {
        self.files.counts()
    }

    /// Is this for PHP, and not for a file or for what makes one?
    pub fn runs(&self, target: &[u8]) -> bool {
        match self.routes.route(target) {
            Route::Page { .. } => true,
            Route::Run(handler) => matches!(handler, Handler::Script(_)),
            Route::File { .. } | Route::Malformed => false,
        }
    }

    /// Answers a request.
    pub async fn fetch(&self, request: &OriginRequest) -> Result<OriginResponse, OriginError> {
        match self.routes.route(&request.target) {
            Route::File { path, class, otherwise } => {
                match self.files.serve(request, &path, class).await? {
                    Served::Response(response) => Ok(response),
                    Served::Missing => self.run(request, &otherwise).await,
                }
            }
            Route::Page { try_file, script } => {
                if let Some(response) = self.try_file(request, try_file).await? {
                    return Ok(response);
                }
                self.ask_php(request, &script).await
            }
            Route::Run(handler) => self.run(request, &handler).await,
            Route::Malformed => Ok(plain(StatusCode::BAD_REQUEST)),
        }
    }

    /// A file that has exactly the name of a page.
    async fn try_file(
        &self,
        request: &OriginRequest,
        path: Option<SafePath>,
    ) -> Result<Option<OriginResponse>, OriginError> {
        let Some(path) = path else { return Ok(None) };
        match self.files.serve_page(request, &path).await? {
            Served::Response(response) => Ok(Some(response)),
            Served::Missing => Ok(None),
        }
    }

    async fn ask_php(
        &self,
        request: &OriginRequest,
        script: &fastcgi::Script,
    ) -> Result<OriginResponse, OriginError> {
        if request.files_alone {
            return Err(OriginError::Closed);
        }
        self.client.fetch(request, script).await
    }

    async fn run(
        &self,
        request: &OriginRequest,
        handler: &Handler,
    ) -> Result<OriginResponse, OriginError> {
        match handler {
            Handler::Script(script) => self.ask_php(request, script).await,
            Handler::NotFound(_) if request.files_alone => Ok(plain(StatusCode::NOT_FOUND)),
            Handler::NotFound(script) => {
                let answer = self.client.fetch(&without_content(request), script).await;
                answer.or_else(|_| Ok(plain(StatusCode::NOT_FOUND)))
            }
        }
    }
}

/// The request for an error page: a GET without content (a HEAD stays one).
fn without_content(request: &OriginRequest) -> OriginRequest {
    let mut request = request.clone();
    if request.method != Method::HEAD {
        request.method = Method::GET;
    }
    request.body = Spooled::default();
    request.fields.remove("content-length");
    request.fields.remove("content-type");
    request
}

fn plain(status: StatusCode) -> OriginResponse {
    let text = format!("{status}\n");
    let mut fields = Fields::with_capacity(2);
    fields.push_static("Content-Type", Bytes::from_static(b"text/plain; charset=utf-8"));
    fields.push_static("Content-Length", text.len().to_string());
    let body = Body::from(Bytes::from(text));
    OriginResponse { status, fields, body, provenance: Provenance::Disk }
}
