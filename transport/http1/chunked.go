package http1

// unchunker takes the chunked transfer coding off (RFC 9112 §7.1), a byte at a time and so without regard to how
// the bytes come. It stops before a trailer section that is not empty.
type unchunker struct {
	state  chunkState
	digits uint8
	size   uint64 // being parsed, then what is left of the chunk
	ext    int    // bytes of extensions still allowed
}

type chunkState uint8

const (
	chunkSize      chunkState = iota // chunk-size = 1*HEXDIG
	chunkExtName                     // after ";"
	chunkExtMore                     // within the name
	chunkExtValue                    // after "="
	chunkExtToken                    // within a token
	chunkExtQuoted                   // within a quoted-string
	chunkExtEscape                   // after its backslash
	chunkExtEnd                      // after it
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer // after the last chunk's line
	chunkLastLF
	chunkFields // the trailer section holds fields; its first byte was not taken
	chunkDone
)

// decode moves data from src to dst, which may start at or before src in the same memory. It gives the bytes of
// data, and the bytes of src that it took; on an error those are meaningless.
func (u *unchunker) decode(dst, src []byte) (n, used int, err *refusal) {
	for used < len(src) {
		if u.state == chunkData {
			m := copy(dst[n:], src[used:min(uint64(len(src)), uint64(used)+u.size)])
			n, used, u.size = n+m, used+m, u.size-uint64(m)
			if u.size > 0 {
				return n, used, nil // src is empty or dst is full
			}
			u.state = chunkDataCR
			continue
		}
		if u.state >= chunkFields {
			return n, used, nil
		}
		if err := u.frame(src[used]); err != nil {
			return n, used, err
		}
		if u.state != chunkFields {
			used++
		}
	}
	return n, used, nil
}

// frame takes one byte that is not data.
func (u *unchunker) frame(c byte) *refusal {
	switch u.state {
	case chunkSize:
		return u.sizeByte(c)
	case chunkSizeLF:
		if c != '\n' {
			return errBareCR
		}
		u.state = chunkData
		if u.size == 0 {
			u.state = chunkTrailer
		}
	case chunkDataCR:
		if c != '\r' {
			return errChunkEnd
		}
		u.state = chunkDataLF
	case chunkDataLF:
		if c != '\n' {
			return errChunkEnd
		}
		u.state, u.digits = chunkSize, 0
	case chunkTrailer:
		u.state = chunkFields
		if c == '\r' {
			u.state = chunkLastLF
		}
	case chunkLastLF:
		if c != '\n' {
			return errBareCR
		}
		u.state = chunkDone
	default:
		if c != '\r' {
			u.ext--
		}
		if u.ext < 0 {
			return errExtSize
		}
		return u.extByte(c)
	}
	return nil
}

func (u *unchunker) sizeByte(c byte) *refusal {
	switch {
	case classes[c]&isHexDig != 0:
		if u.digits == 0 {
			u.size = 0
		}
		if u.digits++; u.digits > 16 || u.size >= 1<<59 {
			return errChunkLarge // sums of sizes stay below 1<<63
		}
		u.size = u.size<<4 | uint64(hexValue(c))
		return nil
	case u.digits == 0:
		return errChunkSize
	case c == '\r':
		u.state = chunkSizeLF
		return nil
	case c == ';':
		if u.ext--; u.ext < 0 {
			return errExtSize
		}
		u.state = chunkExtName
		return nil
	case c == '\n':
		return errBareLF
	}
	return errChunkSize
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// extByte takes a byte of chunk-ext = *( ";" name [ "=" ( token / quoted-string ) ] ) (RFC 9112 §7.1.1). Its meaning is
// for nobody here, but only what is well-formed is skipped. No whitespace is taken between its parts.
func (u *unchunker) extByte(c byte) *refusal {
	token := classes[c]&isToken != 0
	switch {
	case u.state == chunkExtQuoted && c == '"':
		u.state = chunkExtEnd
	case u.state == chunkExtQuoted && c == '\\':
		u.state = chunkExtEscape
	case u.state == chunkExtQuoted && (c >= ' ' && c != 0x7f || c == '\t'):
	case u.state == chunkExtEscape && (c >= ' ' && c != 0x7f || c == '\t'):
		u.state = chunkExtQuoted
	case u.state == chunkExtQuoted, u.state == chunkExtEscape:
		return badExt(c)
	case u.state == chunkExtName && token:
		u.state = chunkExtMore
	case u.state == chunkExtValue && token:
		u.state = chunkExtToken
	case u.state == chunkExtValue && c == '"':
		u.state = chunkExtQuoted
	case u.state == chunkExtName, u.state == chunkExtValue:
		return badExt(c)
	case u.state != chunkExtEnd && token:
	case u.state == chunkExtMore && c == '=':
		u.state = chunkExtValue
	case c == ';':
		u.state = chunkExtName
	case c == '\r':
		u.state = chunkSizeLF
	default:
		return badExt(c)
	}
	return nil
}

func badExt(c byte) *refusal {
	switch c {
	case '\n':
		return errBareLF
	case '\r':
		return errBareCR
	}
	return errChunkExt
}
