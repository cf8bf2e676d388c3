//! The initialization segment: the boxes that describe the tracks, before all fragments.
//!
//! It has no edit list and no frames (ISO/IEC 14496-12, section 8.8). The boxes are those of the
//! crate `mp4-atom`. It has no sample entry for a configuration that is copied as it is, so the
//! entries, and the boxes around them, are opened here.

use bytes::Bytes;
use mp4_atom::esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig};
use mp4_atom::{
    Ac3SpecificBox, Audio, BufMut, Dinf, Dref, Ec3IndependentSubstream, Ec3SpecificBox, Encode,
    Esds, FourCC, Ftyp, Hdlr, Mdhd, Mvex, Mvhd, Smhd, Stco, Stsc, Stsz, Stts, Tkhd, Trex, Url,
    Visual, Vmhd,
};

use super::TrackConfig;
use super::description::{Ac3Fields, Description};

/// Ticks per second of the movie. No duration is given in them.
const MOVIE_TIMESCALE: u32 = 1000;
/// `streamType` of audio in a descriptor (ISO/IEC 14496-1, table 6).
const STREAM_TYPE_AUDIO: u8 = 5;
/// Bits of a sample where the codec has no such number.
const SAMPLE_BITS: u16 = 16;

/// Result of the crate's writers. They fail for values that do not fit their field, which
/// [`TrackConfig`] excludes.
type Written = mp4_atom::Result<()>;

/// Returns the initialization segment of several tracks. Their ids are 1 and up, in their order.
pub fn init_segment(tracks: &[&TrackConfig]) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    let written = write_file_type(&mut out, tracks.len() == 1)
        .and_then(|()| out.encode_atom(b"moov", |out| write_movie(out, tracks)));
    debug_assert!(written.is_ok(), "{written:?}");
    out.into()
}

/// Writes the brands. `iso6` has signed composition offsets without edit lists, and so has `cmf2`,
/// the brand of CMAF, whose files have one track (ISO/IEC 23000-19, section 7.2).
fn write_file_type(out: &mut Vec<u8>, is_single: bool) -> Written {
    let mut compatible_brands = vec![FourCC::new(b"iso6"), FourCC::new(b"mp41")];
    if is_single {
        compatible_brands.push(FourCC::new(b"cmf2"));
    }
    Ftyp { major_brand: FourCC::new(b"iso6"), minor_version: 0, compatible_brands }.encode(out)
}

fn write_movie(out: &mut Vec<u8>, tracks: &[&TrackConfig]) -> Written {
    let ids = 1..;
    let next_track_id = 1 + tracks.len() as u32;
    let (rate, volume) = (1.into(), 1.into());
    Mvhd { timescale: MOVIE_TIMESCALE, rate, volume, next_track_id, ..Mvhd::default() }
        .encode(out)?;
    for (track_id, track) in ids.clone().zip(tracks) {
        out.encode_atom(b"trak", |out| write_track(out, track_id, track))?;
    }
    let trex = ids.zip(tracks).map(|(track_id, _)| Trex {
        track_id,
        default_sample_description_index: 1,
        ..Trex::default()
    });
    Mvex { trex: trex.collect(), ..Mvex::default() }.encode(out)
}

fn write_track(out: &mut Vec<u8>, track_id: u32, track: &TrackConfig) -> Written {
    let (width, height) = track.size;
    Tkhd {
        track_id,
        enabled: true,
        in_movie: true,
        // Players choose one track of each group.
        alternate_group: u16::from(!track.is_video()),
        volume: u8::from(!track.is_video()).into(),
        width: width.into(),
        height: height.into(),
        ..Tkhd::default()
    }
    .encode(out)?;
    out.encode_atom(b"mdia", |out| write_media(out, track))
}

fn write_media(out: &mut Vec<u8>, track: &TrackConfig) -> Written {
    let language = "und".to_owned();
    Mdhd { timescale: track.timescale, language, ..Mdhd::default() }.encode(out)?;
    let (handler, name) =
        if track.is_video() { (b"vide", "VideoHandler") } else { (b"soun", "SoundHandler") };
    Hdlr { handler: FourCC::new(handler), name: name.to_owned() }.encode(out)?;
    out.encode_atom(b"minf", |out| {
        match track.is_video() {
            true => Vmhd::default().encode(out)?,
            false => Smhd::default().encode(out)?,
        }
        Dinf { dref: Dref { entries: vec![Url::default().into()] } }.encode(out)?;
        out.encode_atom(b"stbl", |out| write_sample_table(out, track))
    })
}

/// Writes the description of the frames, and empty tables: all frames are in fragments.
fn write_sample_table(out: &mut Vec<u8>, track: &TrackConfig) -> Written {
    out.encode_atom(b"stsd", |out| {
        // Version, flags, and the number of entries.
        out.append_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
        write_entry(out, track)
    })?;
    Stts::default().encode(out)?;
    Stsc::default().encode(out)?;
    Stsz::default().encode(out)?;
    Stco::default().encode(out)
}

fn write_entry(out: &mut Vec<u8>, track: &TrackConfig) -> Written {
    match &track.description {
        Description::Record { entry, kind, content } => out.encode_atom(entry, |out| {
            match track.is_video() {
                true => visual(track).encode(out)?,
                false => audio(track, SAMPLE_BITS).encode(out)?,
            }
            write_box(out, kind, content)
        }),
        Description::Elementary { object_type, config } => out.encode_atom(b"mp4a", |out| {
            audio(track, SAMPLE_BITS).encode(out)?;
            elementary_stream(*object_type, config).encode(out)
        }),
        Description::Flac { content, bits } => out.encode_atom(b"fLaC", |out| {
            audio(track, *bits).encode(out)?;
            write_box(out, b"dfLa", content)
        }),
        Description::Ac3(fields) => out.encode_atom(b"ac-3", |out| {
            audio(track, SAMPLE_BITS).encode(out)?;
            ac3_box(fields).encode(out)
        }),
        Description::Eac3(fields, data_rate) => out.encode_atom(b"ec-3", |out| {
            audio(track, SAMPLE_BITS).encode(out)?;
            eac3_box(fields, *data_rate).encode(out)
        }),
    }
}

fn write_box(out: &mut Vec<u8>, kind: &[u8; 4], content: &[u8]) -> Written {
    out.encode_atom(kind, |out| {
        out.append_slice(content);
        Ok(())
    })
}

fn visual(track: &TrackConfig) -> Visual {
    let (width, height) = track.size;
    Visual { data_reference_index: 1, width, height, ..Visual::default() }
}

fn audio(track: &TrackConfig, sample_size: u16) -> Audio {
    Audio {
        data_reference_index: 1,
        channel_count: track.channels.into(),
        sample_size,
        // The field has 16 bits. A higher rate is only in the configuration and in the timescale.
        sample_rate: u16::try_from(track.timescale).unwrap_or(0).into(),
    }
}

fn elementary_stream(object_type_indication: u8, config: &[u8]) -> Esds {
    let dec_specific = (!config.is_empty())
        .then(|| DecoderSpecific { raw: config.to_vec(), ..DecoderSpecific::default() });
    let dec_config = DecoderConfig {
        object_type_indication,
        stream_type: STREAM_TYPE_AUDIO,
        dec_specific,
        ..DecoderConfig::default()
    };
    let sl_config = SLConfig::default();
    Esds { es_desc: EsDescriptor { dec_config, sl_config, ..EsDescriptor::default() } }
}

const fn ac3_box(fields: &Ac3Fields) -> Ac3SpecificBox {
    Ac3SpecificBox {
        fscod: fields.rate_code,
        bsid: fields.stream_id,
        bsmod: fields.stream_mode,
        acmod: fields.coding_mode,
        lfeon: fields.has_low_frequency,
        bit_rate_code: fields.bit_rate_code,
    }
}

fn eac3_box(fields: &Ac3Fields, data_rate: u16) -> Ec3SpecificBox {
    let substream = Ec3IndependentSubstream {
        fscod: fields.rate_code,
        bsid: fields.stream_id,
        asvc: false,
        bsmod: fields.stream_mode,
        acmod: fields.coding_mode,
        lfeon: fields.has_low_frequency,
        num_dep_sub: 0,
        chan_loc: None,
    };
    Ec3SpecificBox { data_rate, substreams: vec![substream] }
}
