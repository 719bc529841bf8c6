//! What a node says of itself on its page of metrics. Owns asking for a page and finding a value on it; never what it means.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A node that is down or stands still gives no page.
const WITHIN: Duration = Duration::from_millis(300);

/// The page of the node that shows it at this address.
///
/// # Errors
/// When there is none within a moment.
pub(super) async fn page(address: &str) -> io::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await.map(|_| page)
    };
    timeout(WITHIN, asked).await.map_err(io::Error::other)?
}

/// The value of a metric without labels; `None`: it is not on the page.
pub(super) fn value(page: &str, name: &str) -> Option<u64> {
    let mut lines = page.lines().filter_map(|line| line.strip_prefix(name));
    lines.find_map(|rest| rest.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# TYPE hits counter\nhits_total 17\nhits 4\n# EOF\n";
        assert_eq!(value(page, "hits_total"), Some(17));
        assert_eq!(value(page, "hits"), Some(4));
        assert_eq!(value("HTTP/1.1 503 Service Unavailable\r\n\r\n", "hits"), None);
    }
}
