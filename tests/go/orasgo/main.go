// Command orasgo speaks to a registry through oras-go, the ORAS project's library: one subcommand a line of what
// people do with artifacts. Registries are plain HTTP. Results, mostly digests, go to standard output.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
)

const usage = `orasgo push REF TYPE FILE | attach REF TYPE FILE | discover REF [TYPE] | pull REF FILE | digest REF
orasgo copy [-r] FROM TO | in LAYOUT TAG REF | out REF LAYOUT | mount REF FROM-REPOSITORY DIGEST
orasgo tag REF TAG | tags REF | repositories HOST | delete REF
orasgo blob-push REF FILE | blob-fetch REF FILE | blob-delete REF`

type command struct {
	words int
	run   func(ctx context.Context, words []string) error
}

var commands = map[string]command{
	"push":         {3, push},
	"attach":       {3, attach},
	"discover":     {1, discover},
	"pull":         {2, pull},
	"digest":       {1, digest},
	"copy":         {2, copyImage},
	"in":           {3, layoutIn},
	"out":          {2, layoutOut},
	"mount":        {3, mount},
	"tag":          {2, tag},
	"tags":         {1, tags},
	"repositories": {1, repositories},
	"delete":       {1, remove},
	"blob-push":    {2, blobPush},
	"blob-fetch":   {2, blobFetch},
	"blob-delete":  {1, blobDelete},
}

func main() {
	words := os.Args[1:]
	if len(words) == 0 || len(words)-1 < commands[words[0]].words || commands[words[0]].run == nil {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	if err := commands[words[0]].run(context.Background(), words[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "orasgo:", err)
		os.Exit(1)
	}
}

// open gives the repository of a reference and the tag or digest in it.
func open(reference string) (*remote.Repository, string, error) {
	repository, err := remote.NewRepository(reference)
	if err != nil {
		return nil, "", err
	}
	repository.PlainHTTP = true
	return repository, repository.Reference.Reference, nil
}

func resolve(ctx context.Context, reference string) (*remote.Repository, ocispec.Descriptor, error) {
	repository, name, err := open(reference)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	found, err := repository.Resolve(ctx, name)
	return repository, found, err
}

// pack pushes a file as the only layer of an artifact, which refers to subject if there is one.
func pack(ctx context.Context, to *remote.Repository, kind, file string, subject *ocispec.Descriptor) (ocispec.Descriptor, error) {
	bytes, err := os.ReadFile(file)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	layer, err := oras.PushBytes(ctx, to, "application/octet-stream", bytes)
	if err != nil {
		return layer, err
	}
	options := oras.PackManifestOptions{Subject: subject, Layers: []ocispec.Descriptor{layer}}
	return oras.PackManifest(ctx, to, oras.PackManifestVersion1_1, kind, options)
}

func push(ctx context.Context, words []string) error {
	to, name, err := open(words[0])
	if err != nil {
		return err
	}
	packed, err := pack(ctx, to, words[1], words[2], nil)
	if err != nil {
		return err
	}
	fmt.Println(packed.Digest)
	return to.Tag(ctx, packed, name)
}

func attach(ctx context.Context, words []string) error {
	to, subject, err := resolve(ctx, words[0])
	if err != nil {
		return err
	}
	packed, err := pack(ctx, to, words[1], words[2], &subject)
	if err != nil {
		return err
	}
	fmt.Println(packed.Digest)
	return nil
}

func discover(ctx context.Context, words []string) error {
	at, subject, err := resolve(ctx, words[0])
	if err != nil {
		return err
	}
	// Without this the library would fall back to a tag when the registry has no referrers API.
	if err := at.SetReferrersCapability(true); err != nil {
		return err
	}
	return at.Referrers(ctx, subject, strings.Join(words[1:], ""), func(page []ocispec.Descriptor) error {
		for _, referrer := range page {
			fmt.Println(referrer.Digest, referrer.ArtifactType)
		}
		return nil
	})
}

func pull(ctx context.Context, words []string) error {
	from, found, err := resolve(ctx, words[0])
	if err != nil {
		return err
	}
	successors, err := content.Successors(ctx, from, found)
	if err != nil {
		return err
	}
	bytes, err := content.FetchAll(ctx, from, successors[len(successors)-1])
	if err != nil {
		return err
	}
	fmt.Println(found.Digest)
	return os.WriteFile(words[1], bytes, 0o644)
}

func digest(ctx context.Context, words []string) error {
	_, found, err := resolve(ctx, words[0])
	fmt.Println(found.Digest)
	return err
}

// copyImage copies, with -r referrers too; blobs are mounted where both repositories are on one registry.
func copyImage(ctx context.Context, words []string) error {
	recursive := words[0] == "-r"
	if recursive {
		words = words[1:]
	}
	from, source, err := open(words[0])
	if err != nil {
		return err
	}
	to, target, err := open(words[1])
	if err != nil {
		return err
	}
	graph := oras.DefaultCopyGraphOptions
	if from.Reference.Registry == to.Reference.Registry {
		graph.MountFrom = func(context.Context, ocispec.Descriptor) ([]string, error) {
			return []string{from.Reference.Repository}, nil
		}
	}
	var copied ocispec.Descriptor
	if recursive {
		options := oras.ExtendedCopyOptions{ExtendedCopyGraphOptions: oras.ExtendedCopyGraphOptions{CopyGraphOptions: graph}}
		copied, err = oras.ExtendedCopy(ctx, from, source, to, target, options)
	} else {
		copied, err = oras.Copy(ctx, from, source, to, target, oras.CopyOptions{CopyGraphOptions: graph})
	}
	if err == nil {
		fmt.Println(copied.Digest)
	}
	return err
}

func layoutIn(ctx context.Context, words []string) error {
	from, err := oci.New(words[0])
	if err != nil {
		return err
	}
	to, name, err := open(words[2])
	if err != nil {
		return err
	}
	copied, err := oras.Copy(ctx, from, words[1], to, name, oras.DefaultCopyOptions)
	fmt.Println(copied.Digest)
	return err
}

func layoutOut(ctx context.Context, words []string) error {
	from, name, err := open(words[0])
	if err != nil {
		return err
	}
	to, err := oci.New(words[1])
	if err != nil {
		return err
	}
	copied, err := oras.Copy(ctx, from, name, to, name, oras.DefaultCopyOptions)
	fmt.Println(copied.Digest)
	return err
}

func mount(ctx context.Context, words []string) error {
	to, _, err := open(words[0])
	if err != nil {
		return err
	}
	from, _, err := open(to.Reference.Registry + "/" + words[1])
	if err != nil {
		return err
	}
	blob, err := from.Blobs().Resolve(ctx, words[2])
	if err != nil {
		return err
	}
	return to.Mount(ctx, blob, words[1], func() (io.ReadCloser, error) {
		return nil, fmt.Errorf("the registry did not mount %s but wants it sent", blob.Digest)
	})
}

func tag(ctx context.Context, words []string) error {
	at, found, err := resolve(ctx, words[0])
	if err != nil {
		return err
	}
	return at.Tag(ctx, found, words[1])
}

func lines(page []string) error {
	for _, line := range page {
		fmt.Println(line)
	}
	return nil
}

func tags(ctx context.Context, words []string) error {
	at, _, err := open(words[0])
	if err != nil {
		return err
	}
	at.TagListPageSize = 1
	return at.Tags(ctx, "", lines)
}

func repositories(ctx context.Context, words []string) error {
	at, err := remote.NewRegistry(words[0])
	if err != nil {
		return err
	}
	at.PlainHTTP = true
	at.RepositoryListPageSize = 1
	return at.Repositories(ctx, "", lines)
}

func remove(ctx context.Context, words []string) error {
	at, found, err := resolve(ctx, words[0])
	if err != nil {
		return err
	}
	return at.Manifests().Delete(ctx, found)
}

func blobPush(ctx context.Context, words []string) error {
	to, _, err := open(words[0])
	if err != nil {
		return err
	}
	bytes, err := os.ReadFile(words[1])
	if err != nil {
		return err
	}
	pushed, err := oras.PushBytes(ctx, to.Blobs(), "", bytes)
	fmt.Println(pushed.Digest)
	return err
}

func blobAt(ctx context.Context, reference string) (registry.BlobStore, ocispec.Descriptor, error) {
	at, name, err := open(reference)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	found, err := at.Blobs().Resolve(ctx, name)
	return at.Blobs(), found, err
}

func blobFetch(ctx context.Context, words []string) error {
	at, found, err := blobAt(ctx, words[0])
	if err != nil {
		return err
	}
	bytes, err := content.FetchAll(ctx, at, found)
	if err != nil {
		return err
	}
	return os.WriteFile(words[1], bytes, 0o644)
}

func blobDelete(ctx context.Context, words []string) error {
	at, found, err := blobAt(ctx, words[0])
	if err != nil {
		return err
	}
	return at.Delete(ctx, found)
}
