"""Class and probability of image files: python experiments/predict.py model=model.onnx images=folder"""

from steeldefect.deploy.predict import main

if __name__ == "__main__":
    main()
