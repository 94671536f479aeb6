//! A POST's body that is held against the frame as it came from the client, with `--verify`.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{
    transport::http::{Body, BodyError},
    verify::Through,
};

struct HeldAgainst {
    bytes: Bytes,
    through: Box<Through>,
}

/// These bytes as a body.
pub(super) fn body(bytes: Bytes, through: Option<Box<Through>>) -> Body {
    match through {
        Some(through) => Body::boxed(HeldAgainst { bytes, through }),
        None => Body::from(bytes),
    }
}

impl HttpBody for HeldAgainst {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.through.leave(&bytes);
        self.through.settle();
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::{
        telemetry::metrics::{
            Metrics,
            labels::{Link, To},
        },
        verify::Verify,
    };

    #[tokio::test]
    async fn altered_byte_of_a_post_is_found_on_its_way_out() {
        let (verify, metrics, place) = (Verify::on().unwrap(), Metrics::default(), (Link::Dial, To::Server));
        for (leaves, mismatches) in [("{\"a\":1}", 0), ("{\"a\":2}", 1), ("{\"a\":1", 2)] {
            let seen = verify.seen(b"{\"a\":1}").unwrap();
            let body = body(leaves.into(), verify.outward(&metrics, place.0, place.1, seen));
            assert_eq!(body.size_hint().exact(), Some(leaves.len() as u64));
            assert_eq!(body.collect().await.unwrap().to_bytes(), leaves);
            assert_eq!(metrics.verify_mismatches.of(place), mismatches, "{leaves}");
        }
        assert_eq!(metrics.verify_frames.of(place), 3);
    }
}
