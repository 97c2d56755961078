"""What training learns from: manifests, their sound decoded once, speech that is made, transcripts as labels."""
