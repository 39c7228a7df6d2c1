"""Do images made by a GAN help a steel-surface defect classifier, and by how much, honestly?"""
