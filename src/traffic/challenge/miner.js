// SHA-256 (FIPS 180-4) in plain JavaScript. The browser's own (crypto.subtle) is missing over plain http, and a call of it
// for a hundred bytes takes longer than hashing them here.
function sha256() {
  var K = new Int32Array([
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
  ]);
  var w = new Int32Array(64);
  return {
    // Puts the padding behind the message, and says how many blocks there are.
    pad: function (room, length) {
      var blocks = (length + 8 >> 6) + 1, end = blocks * 64;
      room[length] = 128;
      for (var at = length + 1; at < end; at++) room[at] = 0;
      new DataView(room.buffer).setUint32(end - 4, length * 8);
      return blocks;
    },
    // Hashes blocks into eight words.
    hash: function (room, blocks, out) {
      out[0] = 0x6a09e667; out[1] = 0xbb67ae85; out[2] = 0x3c6ef372; out[3] = 0xa54ff53a;
      out[4] = 0x510e527f; out[5] = 0x9b05688c; out[6] = 0x1f83d9ab; out[7] = 0x5be0cd19;
      for (var at = 0; blocks > 0; blocks--) {
        var i, x, y;
        for (i = 0; i < 16; i++, at += 4) {
          w[i] = room[at] << 24 | room[at + 1] << 16 | room[at + 2] << 8 | room[at + 3];
        }
        for (; i < 64; i++) {
          x = w[i - 15];
          y = w[i - 2];
          w[i] = w[i - 16] + w[i - 7]
            + ((x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3)
            + ((y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10);
        }
        var a = out[0], b = out[1], c = out[2], d = out[3], e = out[4], f = out[5], g = out[6], h = out[7];
        for (i = 0; i < 64; i++) {
          x = h + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7)) + (e & f ^ ~e & g) + K[i] + w[i] | 0;
          y = ((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10)) + (a & b ^ a & c ^ b & c) | 0;
          h = g; g = f; f = e; e = d + x | 0;
          d = c; c = b; b = a; a = x + y | 0;
        }
        out[0] += a; out[1] += b; out[2] += c; out[3] += d;
        out[4] += e; out[5] += f; out[6] += g; out[7] += h;
      }
    }
  };
}

// Looks for a number whose digits, behind the puzzle and a dot, give a hash that begins with so many zero bits. What it
// returns tries so many numbers, each time the next ones, and says the one that was found or null.
function miner(puzzle, bits) {
  var sha = sha256(), room = new Uint8Array(512), hash = new Int32Array(8);
  var first = puzzle.length + 1, length = first + 1, blocks;
  for (var at = 0; at < puzzle.length; at++) room[at] = puzzle.charCodeAt(at);
  room[first - 1] = 46;
  room[first] = 48;
  blocks = sha.pad(room, length);
  function next() {
    var at = length - 1;
    while (room[at] === 57 && at >= first) room[at--] = 48;
    if (at >= first) {
      room[at]++;
    } else {
      room[first] = 49;
      room[length++] = 48;
      blocks = sha.pad(room, length);
    }
  }
  return function (tries) {
    for (; tries > 0; tries--) {
      sha.hash(room, blocks, hash);
      if (hash[0] >>> 32 - bits === 0) {
        return String.fromCharCode.apply(null, room.subarray(first, length));
      }
      next();
    }
    return null;
  };
}
