// Command logchecker reads a log over HTTP as any client of C2SP tlog-tiles would, with the note
// and tlog packages by which the go command verifies its checksum database. It checks the newest
// checkpoint, all tiles, all entries, and the proofs that come as JSON on stdin.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8 // of a tile: 256 hashes

// A proof is the body of GET .../proof or of GET .../consistency.
type proof struct {
	Index, From, To int64
	LeafHash        string `json:"leaf_hash"`
	Hashes          []string
	Checkpoint      struct{ Note string }
}

// A site is where a log is; it keeps the tiles that tlog found right.
type site struct {
	url  string
	kept map[tlog.Tile][]byte
}

func (s site) get(path string) []byte {
	answer := must(http.Get(s.url + "/" + path))
	defer answer.Body.Close()
	require(answer.StatusCode == http.StatusOK, path+": "+answer.Status)
	return must(io.ReadAll(io.LimitReader(answer.Body, 1<<26)))
}

func (s site) Height() int { return height }

func (s site) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		if s.kept[tile] == nil { // tlog's own paths name the height too
			data = append(data, s.get(strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
		} else {
			data = append(data, s.kept[tile])
		}
	}
	return data, nil
}

func (s site) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for n, tile := range tiles {
		s.kept[tile] = data[n]
	}
}

func (s site) checkEntries(size int64, reader tlog.HashReader) {
	for _, tile := range tlog.NewTiles(height, 0, size) {
		hashes := must(tlog.ReadTileData(tile, reader)) // held against the root
		if tile.L > 0 {
			continue
		}
		data := s.get(strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1))
		for n := range tile.W {
			end := 2 + int(binary.BigEndian.Uint16(data))
			leaf := tlog.RecordHash(data[2:end])
			require(bytes.Equal(leaf[:], hashes[n*32:][:32]), fmt.Sprint("not the leaf: entry ", n))
			data = data[end:]
		}
		require(len(data) == 0, "a bundle is too long")
	}
}

func checkpoint(text string, verifier note.Verifier) (tree tlog.Tree) {
	lines := strings.Split(must(note.Open([]byte(text), note.VerifierList(verifier))).Text, "\n")
	require(lines[0] == verifier.Name(), "the checkpoint is of another log")
	must(fmt.Sscan(lines[1], &tree.N))
	tree.Hash = tlog.Hash(must(base64.StdEncoding.DecodeString(lines[2])))
	return tree
}

func (p proof) check(reader tlog.HashReader, verifier note.Verifier) {
	var path []tlog.Hash
	for _, text := range p.Hashes {
		path = append(path, hash(text))
	}
	if p.To > 0 {
		older, newer := must(tlog.TreeHash(p.From, reader)), must(tlog.TreeHash(p.To, reader))
		must(p, tlog.CheckTree(path, p.To, newer, p.From, older))
		return
	}
	tree := checkpoint(p.Checkpoint.Note, verifier)
	require(must(tlog.TreeHash(tree.N, reader)) == tree.Hash, "two checkpoints are of two trees")
	must(p, tlog.CheckRecord(path, tree.N, tree.Hash, p.Index, hash(p.LeafHash)))
}

func hash(text string) tlog.Hash {
	return tlog.Hash(must(hex.DecodeString(text))) // panics unless it has 32 bytes
}

func must[T any](value T, err error) T {
	require(err == nil, fmt.Sprint(err))
	return value
}

func require(right bool, wrong string) {
	if !right {
		fmt.Println(wrong)
		os.Exit(1)
	}
}

func main() {
	log, verifier := site{os.Args[1], map[tlog.Tile][]byte{}}, must(note.NewVerifier(os.Args[2]))
	tree := checkpoint(string(log.get("checkpoint")), verifier)
	reader := tlog.TileHashReader(tree, log)
	log.checkEntries(tree.N, reader)
	input, proofs := json.NewDecoder(os.Stdin), 0
	for ; input.More(); proofs++ {
		var next proof
		must(next, input.Decode(&next))
		next.check(reader, verifier)
	}
	fmt.Printf("%d entries, %d proofs\n", tree.N, proofs)
}
