//! The table of paths: one list from which both the router and the list of what is covered are made.
//!
//! A path of Apache Pulsar's API is either answered by a handler or refused with words; what is in neither
//! is 404 like any other path.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use std::sync::Arc;

use super::reply::Failure;
use crate::server::Hub;

/// One method of one path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Covered {
    pub path: String,
    pub method: &'static str,
    /// Why it is refused, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<&'static str>,
}

#[derive(Default)]
pub(super) struct Routes {
    router: Router<Arc<Hub>>,
    covered: Vec<Covered>,
}

impl Routes {
    pub fn get<H: Handler<T, Arc<Hub>>, T: 'static>(self, path: &str, handler: H) -> Routes {
        self.answered("GET", path, routing::get(handler))
    }

    pub fn put<H: Handler<T, Arc<Hub>>, T: 'static>(self, path: &str, handler: H) -> Routes {
        self.answered("PUT", path, routing::put(handler))
    }

    pub fn post<H: Handler<T, Arc<Hub>>, T: 'static>(self, path: &str, handler: H) -> Routes {
        self.answered("POST", path, routing::post(handler))
    }

    pub fn delete<H: Handler<T, Arc<Hub>>, T: 'static>(self, path: &str, handler: H) -> Routes {
        self.answered("DELETE", path, routing::delete(handler))
    }

    fn answered(self, method: &'static str, path: &str, handler: MethodRouter<Arc<Hub>>) -> Routes {
        self.add(method, path, None, handler)
    }

    /// A path that Apache Pulsar has and this broker has not: 501, with this reason.
    pub fn refuse(self, method: &'static str, path: &str, reason: &'static str) -> Routes {
        let handler = async move || Failure::not_supported(reason);
        let handler = match method {
            "GET" => routing::get(handler),
            "PUT" => routing::put(handler),
            "POST" => routing::post(handler),
            _ => routing::delete(handler),
        };
        self.add(method, path, Some(reason), handler)
    }

    fn add(
        mut self,
        method: &'static str,
        path: &str,
        refused: Option<&'static str>,
        handler: MethodRouter<Arc<Hub>>,
    ) -> Routes {
        self.router = self.router.route(path, handler);
        self.covered.push(Covered { path: path.to_owned(), method, refused });
        self
    }

    pub fn merge(mut self, other: Routes) -> Routes {
        self.router = self.router.merge(other.router);
        self.covered.extend(other.covered);
        self
    }

    pub fn into_router(self) -> Router<Arc<Hub>> {
        self.router
    }

    pub fn into_covered(mut self) -> Vec<Covered> {
        self.covered.sort();
        self.covered
    }
}
