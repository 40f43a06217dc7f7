//! The page at `/`: what runs, where, how it is.

use crate::reader::Health;
use crate::service::Site;

/// The page as HTML.
pub(super) fn render(site: &Site, health: &Health) -> String {
    let state = if !health.started {
        "starting"
    } else if health.ready {
        "ready"
    } else {
        "not ready"
    };
    let (host, port) = site.pg.rsplit_once(':').unwrap_or((&site.pg, "5433"));
    format!(
        r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{project} · Tidemill</title>
<style>body{{font:16px/1.6 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}code{{background:#eee;padding:.1em .3em}}</style>
</head>
<body>
<h1>{project}</h1>
<p>Tidemill {version} keeps the models of this project. State: <strong>{state}</strong>. {message}</p>
<h2>Read</h2>
<ul>
<li>Postgres wire: <code>psql -h {host} -p {port}</code></li>
<li>SQL over HTTP: <code>curl --data "select 1" http://…/sql</code>, with <code>-H "Accept: text/csv"</code> as CSV</li>
</ul>
<h2>Watch</h2>
<ul>
<li><a href="/health/livez">/health/livez</a>, <a href="/health/startupz">/health/startupz</a>, <a href="/health/readyz">/health/readyz</a></li>
<li><a href="/metrics">/metrics</a> for Prometheus</li>
<li>System tables: <code>select * from tidemill.models</code>, also <code>tidemill.sources</code>, <code>tidemill.tables</code>, <code>tidemill.latency</code>, <code>tidemill.rejects</code></li>
</ul>
</body>
</html>
"#,
        project = escape(&site.project),
        version = escape(&site.version),
        message = escape(&health.message),
        host = escape(host),
        port = escape(port),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
