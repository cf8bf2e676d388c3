//! Fragmented MP4 from sequence headers and frames. The boxes nest exactly, whatever the messages
//! contain, and each frame is where its fragment says.

use tiderace::media::fmp4::{Fragments, TrackConfig, init_segment, sample_of};
use tiderace::media::{MediaKind, Tracks};

/// Boxes that contain boxes.
const CONTAINERS: [&[u8; 4]; 8] =
    [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf"];
/// Length of the head of a box (bytes).
const HEAD_BYTES: usize = 8;

/// The input is a row of messages, each with its kind, its timestamp and its length.
pub(crate) fn run(data: &[u8]) {
    let messages = messages(data);
    let configs: Vec<_> = messages.iter().filter_map(config).take(4).collect();
    let tracks: Vec<_> = configs.iter().collect();
    let mut file = init_segment(&tracks).to_vec();
    expect_boxes(&file);
    let mut fragments = Fragments::new(&tracks);
    let mut decoded = vec![0; tracks.len()];
    for &(media, timestamp, payload) in &messages {
        let Some(track) = tracks.iter().position(|track| kind_of(track) == media) else { continue };
        let id = Tracks::DEFAULT.first().unwrap_or_default();
        let Some(sample) = sample_of(media, payload, id) else { continue };
        assert_eq!(&payload[sample.offset..][..sample.bytes.len()], sample.bytes);
        file.clear();
        fragments.head(&mut file, &sample.info(track, timestamp));
        file.extend_from_slice(sample.bytes);
        expect_boxes(&file);
        expect_fragment(&file, sample.bytes, &mut decoded[track]);
    }
    for (track, config) in tracks.iter().enumerate() {
        expect_parts(&tracks, track, kind_of(config), &messages);
    }
}

/// Expects fragments of several frames to hold each of them, one after another.
fn expect_parts(
    tracks: &[&TrackConfig],
    track: usize,
    media: MediaKind,
    messages: &[(MediaKind, u32, &[u8])],
) {
    let id = Tracks::DEFAULT.first().unwrap_or_default();
    let frames: Vec<_> = messages
        .iter()
        .filter(|(of, ..)| *of == media)
        .filter_map(|(_, timestamp, payload)| Some((*timestamp, sample_of(media, payload, id)?)))
        .collect();
    let mut fragments = Fragments::new(tracks);
    for part in frames.chunks(3) {
        let infos: Vec<_> = part.iter().map(|(at, sample)| sample.info(track, *at)).collect();
        let bytes: Vec<_> = part.iter().flat_map(|(_, sample)| sample.bytes).copied().collect();
        let mut file = Vec::new();
        fragments.head_of_many(&mut file, &infos).expect("room for a few frames");
        let head_len = file.len();
        file.extend(&bytes);
        expect_boxes(&file);
        let (_, moof, rest) = take_box(&file);
        assert_eq!(take_box(rest), (b"mdat", &bytes[..], &[][..]));
        let (_, _, traf) = take_box(moof);
        let (_, traf, _) = take_box(traf);
        let (_, _, rest) = take_box(traf);
        let (_, _, trun) = take_box(rest);
        let (_, trun, _) = take_box(trun);
        assert_eq!((number(trun, 4), number(trun, 8)), (part.len() as u64, head_len as u64));
        let sizes = trun[12..].chunks(16).map(|sample| number(sample, 4) as usize);
        assert!(sizes.eq(part.iter().map(|(_, sample)| sample.bytes.len())), "sizes of frames");
    }
}

/// Returns the number of 32 bits at a place.
fn number(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 4].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
}

fn kind_of(track: &TrackConfig) -> MediaKind {
    if track.is_video() { MediaKind::Video } else { MediaKind::Audio }
}

fn config(&(media, _, payload): &(MediaKind, u32, &[u8])) -> Option<TrackConfig> {
    let config = match media {
        MediaKind::Video => TrackConfig::from_video_header(payload),
        _ => TrackConfig::from_audio_header(payload),
    };
    let config = config.ok()?;
    assert!(config.timescale() > 0);
    assert!(config.codec_string().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'));
    Some(config)
}

fn messages(mut data: &[u8]) -> Vec<(MediaKind, u32, &[u8])> {
    let mut messages = Vec::new();
    while let [kind, t3, t2, t1, t0, length, rest @ ..] = data {
        let media = if kind % 2 == 0 { MediaKind::Video } else { MediaKind::Audio };
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        messages.push((media, u32::from_be_bytes([*t3, *t2, *t1, *t0]), payload));
        data = rest;
    }
    messages
}

/// Expects boxes to fill the bytes exactly, down to the boxes without boxes in them.
fn expect_boxes(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let (kind, content, rest) = take_box(bytes);
        if CONTAINERS.contains(&kind) {
            expect_boxes(content);
        }
        bytes = rest;
    }
}

fn take_box(bytes: &[u8]) -> (&[u8; 4], &[u8], &[u8]) {
    let (size, rest) = bytes.split_first_chunk().expect("the size of a box");
    let (kind, _) = rest.split_first_chunk().expect("the type of a box");
    let size = u32::from_be_bytes(*size) as usize;
    assert!((HEAD_BYTES..=bytes.len()).contains(&size), "{size} of {} bytes", bytes.len());
    (kind, &bytes[HEAD_BYTES..size], &bytes[size..])
}

/// Expects a fragment to have one frame, at its end, and not before the last one.
fn expect_fragment(fragment: &[u8], frame: &[u8], decoded: &mut u64) {
    let (_, moof, rest) = take_box(fragment);
    let (mdat, content, rest) = take_box(rest);
    assert_eq!((mdat, content, rest), (b"mdat", frame, &[][..]));
    let (_, _, traf) = take_box(moof);
    let (_, traf, _) = take_box(traf);
    let (_, _, rest) = take_box(traf);
    let (_, tfdt, trun) = take_box(rest);
    let (_, trun, _) = take_box(trun);
    let decode = number(tfdt, 4) << 32 | number(tfdt, 8);
    assert!(decode >= *decoded, "{decode} after {decoded}");
    *decoded = decode;
    assert_eq!(number(trun, 4), 1);
    assert_eq!(number(trun, 8) as usize, fragment.len() - frame.len());
    assert_eq!(number(trun, 16) as usize, frame.len());
}
