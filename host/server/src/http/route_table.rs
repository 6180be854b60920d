//! Every route of the server, as data; `routes.rs` says what a row is and how one is found.

use super::{
    bulk,
    config::Scope,
    cursors, documents, health, indices, metrics, openapi, pipelines,
    reply::Reply,
    repositories,
    routes::{Body, EVENTS, Handler, JSON, Route, TEXT},
    search, snapshots, stream,
};
use crate::mcp::transport;

const OPEN: Option<Scope> = None;
const READ: Option<Scope> = Some(Scope::Read);
const WRITE: Option<Scope> = Some(Scope::Write);
const ADMIN: Option<Scope> = Some(Scope::Admin);
const GET: &[&str] = &["GET"];
const PUT: &[&str] = &["PUT"];
const POST: &[&str] = &["POST"];
const DELETE: &[&str] = &["DELETE"];
const GET_HEAD: &[&str] = &["GET", "HEAD"];
const GET_POST: &[&str] = &["GET", "POST"];
const PUT_POST: &[&str] = &["PUT", "POST"];
const fn route(
    methods: &'static [&'static str],
    path: &'static str,
    scope: Option<Scope>,
    help: &'static str,
    handler: Handler,
) -> Route {
    Route { methods, path, scope, help, parameters: &[], body: Body::Nothing, gives: JSON, handler }
}

macro_rules! handler {
    (|$app:ident, $call:ident, $path:ident| $answer:expr) => {
        |$app, $call, $path| Box::pin(async move { $answer })
    };
}

/// Everything that is served, but for the page's files; the first row that fits answers.
pub(super) static ROUTES: &[Route] = &[
    route(
        GET,
        "/_health/live",
        OPEN,
        "Whether the process answers",
        handler!(|_app, _call, _path| health::live()),
    ),
    route(
        GET,
        "/_health/ready",
        OPEN,
        "Whether indexes are open; 503 before and while stopping",
        handler!(|app, _call, _path| health::ready(app)),
    ),
    route(
        POST,
        "/mcp",
        READ,
        "Tools of the Model Context Protocol: one JSON-RPC message",
        handler!(|app, call, _path| transport::answer(app, call).await),
    )
    .body(Body::Needed("RpcMessage"))
    .gives(EVENTS),
    route(GET_HEAD, "/", READ, "Name and version", handler!(|_app, _call, _path| health::root())),
    route(
        GET,
        "/_openapi.json",
        READ,
        "This description",
        handler!(|_app, _call, _path| Reply::ok(openapi::document())),
    ),
    route(
        GET,
        "/_metrics",
        READ,
        "Counters in Prometheus's format",
        handler!(|app, _call, _path| metrics::answer(app).await),
    )
    .gives(TEXT),
    route(
        GET,
        "/_orion/version",
        READ,
        "Versions of program, wire and plugin contract",
        handler!(|_app, _call, _path| health::version()),
    ),
    route(
        GET,
        "/_orion/strategies",
        READ,
        "Strategies with their parameters, and policies",
        handler!(|app, _call, _path| health::strategies(app).await),
    ),
    route(
        GET,
        "/_cluster/health",
        READ,
        "State of all indexes",
        handler!(|app, _call, _path| health::cluster(app, None)),
    )
    .takes(health::CLUSTER),
    route(
        GET,
        "/_cluster/health/{index}",
        READ,
        "State of some indexes",
        handler!(|app, _call, path| health::cluster(app, Some(&path[0]))),
    )
    .takes(health::CLUSTER),
    route(
        GET,
        "/_cat/indices",
        READ,
        "All indexes as rows; `format=json` gives objects",
        handler!(|app, call, _path| indices::cat(app, &call, "_all").await),
    )
    .takes(indices::CAT)
    .gives(TEXT),
    route(
        GET,
        "/_cat/indices/{index}",
        READ,
        "Some indexes as rows",
        handler!(|app, call, path| indices::cat(app, &call, &path[0]).await),
    )
    .takes(indices::CAT)
    .gives(TEXT),
    route(
        PUT_POST,
        "/_bulk",
        WRITE,
        "Change many documents",
        handler!(|app, call, _path| bulk::bulk(app, &call, None).await),
    )
    .takes(bulk::PARAMETERS)
    .body(Body::Lines("an action, and behind index, create and update a document")),
    route(
        PUT_POST,
        "/{index}/_bulk",
        WRITE,
        "Change many documents of one index",
        handler!(|app, call, path| bulk::bulk(app, &call, Some(&path[0])).await),
    )
    .takes(bulk::PARAMETERS)
    .body(Body::Lines("an action, and behind index, create and update a document")),
    route(
        GET_POST,
        "/_mget",
        READ,
        "Get several documents",
        handler!(|app, call, _path| documents::mget(app, &call, None).await),
    )
    .takes(documents::READING)
    .body(Body::Needed("MultiGet")),
    route(
        GET_POST,
        "/{index}/_mget",
        READ,
        "Get several documents of one index",
        handler!(|app, call, path| documents::mget(app, &call, Some(&path[0])).await),
    )
    .takes(documents::READING)
    .body(Body::Needed("MultiGet")),
    route(
        GET_POST,
        "/_count",
        READ,
        "Count documents of all indexes",
        handler!(|app, call, _path| search::count(app, &call, None).await),
    )
    .takes(search::COUNTING)
    .body(Body::Optional("CountBody")),
    route(
        GET_POST,
        "/{index}/_count",
        READ,
        "Count documents",
        handler!(|app, call, path| search::count(app, &call, Some(&path[0])).await),
    )
    .takes(search::COUNTING)
    .body(Body::Optional("CountBody")),
    route(
        GET_POST,
        "/_refresh",
        WRITE,
        "Make changes of all indexes visible",
        handler!(|app, _call, _path| indices::refresh(app, "_all").await),
    )
    .takes(indices::REFRESHING),
    route(
        GET_POST,
        "/_flush",
        WRITE,
        "The same as `_refresh`",
        handler!(|app, _call, _path| indices::refresh(app, "_all").await),
    )
    .takes(indices::REFRESHING),
    route(
        GET_POST,
        "/{index}/_refresh",
        WRITE,
        "Make changes visible",
        handler!(|app, _call, path| indices::refresh(app, &path[0]).await),
    )
    .takes(indices::REFRESHING),
    route(
        GET_POST,
        "/{index}/_flush",
        WRITE,
        "The same as `_refresh`",
        handler!(|app, _call, path| indices::refresh(app, &path[0]).await),
    )
    .takes(indices::REFRESHING),
    route(
        GET_POST,
        "/_search",
        READ,
        "Search a point in time",
        handler!(|app, call, _path| search::search(app, &call, None).await),
    )
    .takes(search::PARAMETERS)
    .body(Body::Optional("SearchBody")),
    route(
        GET_POST,
        "/{index}/_search",
        READ,
        "Search",
        handler!(|app, call, path| search::search(app, &call, Some(&path[0])).await),
    )
    .takes(search::PARAMETERS)
    .body(Body::Optional("SearchBody")),
    route(
        POST,
        "/{index}/_search/stream",
        READ,
        "Search adaptively and see the tree grow",
        handler!(|app, call, path| stream::search(app, call, &path[0]).await),
    )
    .takes(stream::PARAMETERS)
    .body(Body::Needed("SearchBody"))
    .gives(EVENTS),
    route(
        GET_POST,
        "/_msearch",
        READ,
        "Several searches",
        handler!(|app, call, _path| search::msearch(app, &call, None).await),
    )
    .takes(search::SEVERAL)
    .body(Body::Lines("a header with an index, and a search")),
    route(
        GET_POST,
        "/{index}/_msearch",
        READ,
        "Several searches of one index",
        handler!(|app, call, path| search::msearch(app, &call, Some(&path[0])).await),
    )
    .takes(search::SEVERAL)
    .body(Body::Lines("a header, and a search")),
    route(
        GET_POST,
        "/_search/scroll",
        READ,
        "The next page of a scroll",
        handler!(|app, call, _path| cursors::scroll(app, &call, None).await),
    )
    .takes(cursors::SCROLLING)
    .body(Body::Optional("ScrollBody")),
    route(
        GET_POST,
        "/_search/scroll/{id}",
        READ,
        "The next page of a scroll",
        handler!(|app, call, path| cursors::scroll(app, &call, Some(&path[0])).await),
    )
    .takes(cursors::SCROLLING)
    .body(Body::Optional("ScrollBody")),
    route(
        DELETE,
        "/_search/scroll",
        READ,
        "End scrolls",
        handler!(|app, call, _path| cursors::clear_scroll(app, &call, None)),
    )
    .takes(cursors::CLEARING)
    .body(Body::Optional("ScrollIds")),
    route(
        DELETE,
        "/_search/scroll/{id}",
        READ,
        "End scrolls",
        handler!(|app, call, path| cursors::clear_scroll(app, &call, Some(&path[0]))),
    )
    .takes(cursors::CLEARING)
    .body(Body::Optional("ScrollIds")),
    route(
        POST,
        "/{index}/_search/point_in_time",
        READ,
        "Hold what an index has now",
        handler!(|app, call, path| cursors::open_pit(app, &call, &path[0])),
    )
    .takes(cursors::HOLDING),
    route(
        DELETE,
        "/_search/point_in_time",
        READ,
        "Let points in time go",
        handler!(|app, call, _path| cursors::close_pit(app, &call, false)),
    )
    .body(Body::Needed("PointIds")),
    route(
        DELETE,
        "/_search/point_in_time/_all",
        READ,
        "Let all points in time go",
        handler!(|app, call, _path| cursors::close_pit(app, &call, true)),
    ),
    route(
        GET,
        "/_search/pipeline",
        READ,
        "All search pipelines",
        handler!(|app, _call, _path| pipelines::get(app, None)),
    )
    .takes(pipelines::LOOKING),
    route(
        GET,
        "/_search/pipeline/{name}",
        READ,
        "Some search pipelines",
        handler!(|app, _call, path| pipelines::get(app, Some(&path[0]))),
    )
    .takes(pipelines::LOOKING),
    route(
        PUT,
        "/_search/pipeline/{name}",
        ADMIN,
        "Make or replace a search pipeline",
        handler!(|app, call, path| pipelines::put(app, &call, &path[0]).await),
    )
    .takes(pipelines::CHANGING)
    .body(Body::Needed("Pipeline")),
    route(
        DELETE,
        "/_search/pipeline/{name}",
        ADMIN,
        "Remove a search pipeline",
        handler!(|app, _call, path| pipelines::delete(app, &path[0]).await),
    )
    .takes(pipelines::CHANGING),
    route(
        GET,
        "/_snapshot",
        READ,
        "All snapshot repositories",
        handler!(|app, _call, _path| repositories::get(app, None)),
    )
    .takes(repositories::PARAMETERS),
    route(
        GET,
        "/_snapshot/{repository}",
        READ,
        "Some snapshot repositories",
        handler!(|app, _call, path| repositories::get(app, Some(&path[0]))),
    )
    .takes(repositories::PARAMETERS),
    route(
        PUT_POST,
        "/_snapshot/{repository}",
        ADMIN,
        "Make a repository of snapshots, in a folder below the configured one",
        handler!(|app, call, path| repositories::put(app, &call, &path[0]).await),
    )
    .takes(repositories::PARAMETERS)
    .body(Body::Needed("Repository")),
    route(
        DELETE,
        "/_snapshot/{repository}",
        ADMIN,
        "Forget a repository; its snapshots stay on disk",
        handler!(|app, _call, path| repositories::delete(app, &path[0]).await),
    )
    .takes(repositories::PARAMETERS),
    route(
        PUT_POST,
        "/_snapshot/{repository}/{snapshot}",
        ADMIN,
        "Take a snapshot",
        handler!(|app, call, path| snapshots::take(app, &call, &path[0], &path[1]).await),
    )
    .takes(snapshots::WORKING)
    .body(Body::Optional("TakeSnapshot")),
    route(
        GET,
        "/_snapshot/{repository}/{snapshot}",
        READ,
        "Look at snapshots",
        handler!(|app, call, path| snapshots::get(app, &call, &path[0], &path[1]).await),
    )
    .takes(snapshots::LOOKING),
    route(
        DELETE,
        "/_snapshot/{repository}/{snapshot}",
        ADMIN,
        "Delete snapshots",
        handler!(|app, _call, path| snapshots::delete(app, &path[0], &path[1]).await),
    )
    .takes(snapshots::LOOKING),
    route(
        POST,
        "/_snapshot/{repository}/{snapshot}/_restore",
        ADMIN,
        "Make indexes from a snapshot",
        handler!(|app, call, path| snapshots::restore(app, &call, &path[0], &path[1]).await),
    )
    .takes(snapshots::WORKING)
    .body(Body::Optional("RestoreSnapshot")),
    route(
        POST,
        "/{index}/_doc",
        WRITE,
        "Put a document under a new id",
        handler!(|app, call, path| documents::put(app, &call, &path[0], None, false).await),
    )
    .takes(documents::WRITING)
    .body(Body::Needed("Document")),
    route(
        PUT_POST,
        "/{index}/_doc/{id}",
        WRITE,
        "Put a document",
        handler!(|app, call, path| documents::put(app, &call, &path[0], Some(&path[1]), false).await),
    )
    .takes(documents::WRITING)
    .body(Body::Needed("Document")),
    route(
        PUT_POST,
        "/{index}/_create/{id}",
        WRITE,
        "Put a document where none is",
        handler!(|app, call, path| documents::put(app, &call, &path[0], Some(&path[1]), true).await),
    )
    .takes(documents::WRITING)
    .body(Body::Needed("Document")),
    route(
        POST,
        "/{index}/_update/{id}",
        WRITE,
        "Change a document in parts",
        handler!(|app, call, path| documents::update(app, &call, &path[0], &path[1]).await),
    )
    .takes(documents::WRITING)
    .body(Body::Needed("Update")),
    route(
        DELETE,
        "/{index}/_doc/{id}",
        WRITE,
        "Delete a document",
        handler!(|app, call, path| documents::delete(app, &call, &path[0], &path[1]).await),
    )
    .takes(documents::WRITING),
    route(
        GET_HEAD,
        "/{index}/_doc/{id}",
        READ,
        "Get a document",
        handler!(|app, call, path| documents::get(app, &call, &path[0], &path[1], false).await),
    )
    .takes(documents::READING),
    route(
        GET_HEAD,
        "/{index}/_source/{id}",
        READ,
        "Get a document's source alone",
        handler!(|app, call, path| documents::get(app, &call, &path[0], &path[1], true).await),
    )
    .takes(documents::READING),
    route(
        GET,
        "/_mapping",
        READ,
        "Mappings of all indexes",
        handler!(|app, _call, _path| indices::get(app, "_all", "_mapping")),
    )
    .takes(indices::LOOKING),
    route(
        GET,
        "/_settings",
        READ,
        "Settings of all indexes",
        handler!(|app, _call, _path| indices::get(app, "_all", "_settings")),
    )
    .takes(indices::LOOKING),
    route(
        GET,
        "/_alias",
        READ,
        "Aliases of all indexes: none",
        handler!(|app, _call, _path| indices::get(app, "_all", "_alias")),
    )
    .takes(indices::LOOKING),
    route(
        GET,
        "/{index}/_mapping",
        READ,
        "Mappings",
        handler!(|app, _call, path| indices::get(app, &path[0], "_mapping")),
    )
    .takes(indices::LOOKING),
    route(
        GET,
        "/{index}/_settings",
        READ,
        "Settings",
        handler!(|app, _call, path| indices::get(app, &path[0], "_settings")),
    )
    .takes(indices::LOOKING),
    route(
        GET,
        "/{index}/_alias",
        READ,
        "Aliases: none",
        handler!(|app, _call, path| indices::get(app, &path[0], "_alias")),
    )
    .takes(indices::LOOKING),
    route(
        PUT,
        "/{index}/_mapping",
        ADMIN,
        "Map further fields",
        handler!(|app, call, path| indices::put(app, &call, &path[0], "_mapping").await),
    )
    .takes(indices::CHANGING)
    .body(Body::Needed("Mapping")),
    route(
        PUT,
        "/{index}/_settings",
        ADMIN,
        "Change settings",
        handler!(|app, call, path| indices::put(app, &call, &path[0], "_settings").await),
    )
    .takes(indices::CHANGING)
    .body(Body::Needed("Settings")),
    route(
        PUT,
        "/{index}",
        ADMIN,
        "Make an index",
        handler!(|app, call, path| indices::create(app, &call, &path[0]).await),
    )
    .takes(indices::MAKING)
    .body(Body::Optional("NewIndex")),
    route(
        DELETE,
        "/{index}",
        ADMIN,
        "Delete indexes",
        handler!(|app, call, path| indices::delete(app, &call, &path[0]).await),
    )
    .takes(indices::DELETING),
    route(
        &["HEAD"],
        "/{index}",
        READ,
        "Whether indexes exist",
        handler!(|app, _call, path| indices::exists(app, &path[0])),
    )
    .takes(indices::LOOKING),
    route(
        GET,
        "/{index}",
        READ,
        "Mappings and settings; for a client of the Model Context Protocol, that there is no stream here",
        handler!(|app, call, path| match path[0].as_str() {
            "mcp" if transport::wants_events(&call) => transport::answer(app, call).await,
            name => indices::get(app, name, ""),
        }),
    )
    .takes(indices::LOOKING),
];
